"""What adjustments refuse."""

from __future__ import annotations

from custody.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound


class UnknownAdjustment(NotFound):
    """No such adjustment of this tenant."""

    code = "unknown_adjustment"
    public = "No such adjustment."


class AdjustmentExistsDifferent(Conflict):
    """The id was used for an adjustment of other content."""

    code = "adjustment_exists_different"
    public = "The id was already used for another adjustment. Use a new id."


class SecondPersonNeeded(Forbidden):
    """Who proposed an adjustment may not decide on it, by whatever key."""

    code = "second_person_needed"
    public = "An adjustment is decided on by somebody else than who proposed it."


class ProposerNeeded(Forbidden):
    """Only who proposed an adjustment may take it back."""

    code = "proposer_needed"
    public = "An adjustment is taken back by who proposed it; others reject it."


class BadGround(InvalidInput):
    """The words that explain an adjustment are empty, too long or not printable."""

    code = "bad_ground"
    public = "Evidence and notes are 1 to 500 printable characters, not spaces alone."
