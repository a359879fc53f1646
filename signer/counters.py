"""The counters of passkeys as the journal has counted them: a copied authenticator gives itself away by repeating one.

Approvals arrive in the order in which quorums fill up, not the one in which people gave them, so a lower counter alone proves
nothing. It does when the approval's intent begins to be valid after a higher counter was journaled.
"""

from bisect import bisect_left
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One approval's counter."""

    public_key: str
    counter: int
    """0 from a credential that does not count."""


@dataclass(slots=True, kw_only=True)
class Counters:
    """What each credential has shown so far."""

    _digests: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """(key, counter) to the intent under which it was counted."""
    _highest: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Key to (unix second, highest counter until then), oldest first."""

    def learn(self, at: int, digest: bytes, counted: Counted) -> None:
        """Keep a counter that was journaled at unix second `at`."""
        if counted.counter == 0:
            return
        self._digests.setdefault((counted.public_key, counted.counter), digest)
        history = self._highest.setdefault(counted.public_key, [])
        if not history or history[-1][1] < counted.counter:
            history.append((at, counted.counter))

    def is_possible(self, counted: Counted, *, digest: bytes, not_before: int) -> bool:
        """Tell whether one honest authenticator can have shown this counter for this intent.

        Not when another intent has it, and not when a counter at least as high was journaled before `not_before`.
        """
        owner = self._digests.get((counted.public_key, counted.counter), digest)
        history = self._highest.get(counted.public_key, [])
        earlier = bisect_left(history, not_before, key=lambda entry: entry[0])
        return owner == digest and (earlier == 0 or counted.counter > history[earlier - 1][1])
