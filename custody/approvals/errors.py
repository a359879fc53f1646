"""What approvals refuse."""

from __future__ import annotations

from custody.kernel.errors import Conflict


class DecisionExistsDifferent(Conflict):
    """This person has decided otherwise about this intent; a decision is never taken back."""

    code = "decision_exists_different"
    public = "This approver has already decided otherwise."
