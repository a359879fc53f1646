"""Anchors that an auditor has from elsewhere: the token, an earlier audit, the signer's log."""

from collections.abc import Iterable, Iterator

from signer.anchor import Anchor, parse_anchor
from signer.journal import Entry
from signer.refusal import EvidenceFault


class Anchors:
    """What the journal has to go through."""

    def __init__(self, texts: Iterable[str]) -> None:
        """`texts`: `COUNT HEAD POLICY_HASH` each, with or without the name that the token writes before. Raises EvidenceFault."""
        self._awaited: dict[int, Anchor] = {}
        for text in texts:
            anchor = parse_anchor(text)
            if self._awaited.setdefault(anchor.count, anchor) != anchor:
                raise EvidenceFault(f"two different anchors are given for journal entry {anchor.count}")

    def watch(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Pass entries on; raises EvidenceFault at one whose head is not the anchor's."""
        for entry in entries:
            awaited = self._awaited.get(entry.n)
            if awaited is not None and awaited.head != entry.head:
                raise EvidenceFault(
                    f"the journal does not go through the anchor at entry {entry.n}: it was altered there or before"
                )
            yield entry

    def meet(self, count: int, policy_hash: bytes) -> None:
        """Hold the policy after entry `count` against the anchor there; raises EvidenceFault."""
        awaited = self._awaited.pop(count, None)
        if awaited is not None and awaited.policy_hash != policy_hash:
            raise EvidenceFault(f"the policy in force after entry {count} is not the anchor's")

    def finish(self) -> None:
        """Raise EvidenceFault when the journal ended before an anchor."""
        if self._awaited:
            raise EvidenceFault(f"the journal ends before its anchor at entry {min(self._awaited)}")
