"""What switches refuse, and what they refuse to others."""

from __future__ import annotations

from custody.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound, Refused


class StoppedBySwitch(Refused):
    """An operator has stopped this chain, asset, vault, customer or rail. `values` say which switch, and what it stops."""

    code = "stopped_by_switch"
    public = "Operators have stopped this. It can be asked for again once it has been resumed."


class UnknownSwitch(NotFound):
    """No such switch of this tenant."""

    code = "unknown_switch"
    public = "No such switch."


class SwitchExistsDifferent(Conflict):
    """The id was used to stop something else."""

    code = "switch_exists_different"
    public = "The id was already used to stop something else. Use a new id."


class NotProposed(Conflict):
    """Nobody has proposed yet that it goes on."""

    code = "resume_not_proposed"
    public = "To resume takes two people: one proposes it, another confirms."


class NeedsSecondPerson(Forbidden):
    """Whoever proposed it cannot confirm it as well."""

    code = "needs_second_person"
    public = "Another person has to confirm what you have proposed."


class NothingToStop(InvalidInput):
    """There is no such chain, asset, vault, customer or rail: a slip would stop nothing and look as if it did."""

    code = "nothing_to_stop"
    public = "There is nothing of this name to stop."


class BadSwitchReason(InvalidInput):
    """The reason is empty, too long or not printable."""

    code = "bad_switch_reason"
    public = "The reason is 1 to 200 printable characters, not spaces alone."
