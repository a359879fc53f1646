"""The anchor: the journal's head and the policy's hash, kept in the HSM token, out of the disk's reach.

A journal that is shorter than the anchor says, or that says something else at the anchored place, was rolled back or
cut. The anchor stands in two places that are written in turn, so that a death while one is written leaves the other.

A third place names the owner: the one process that may sign. A starting signer writes its own name first and reads the
anchor afterwards; a signing one moves the anchor first and reads the owner's name afterwards. So of two signers on
one token, whichever is late sees the other: the old one finds another owner before it signs, or the new one finds an
anchor that its copy of the journal does not reach. Two copies of one disk can therefore never both sign.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from signer.refusal import EvidenceFault

PLACES = (0, 1)
OWNER_PLACE = 2
_NAME = "custody-anchor-v2 "
_TEXT = re.compile(r"custody-anchor-v2 (0|[1-9][0-9]*) ([0-9a-f]{64}) ([0-9a-f]{64})")


class AnchorStore(Protocol):
    """Three places for short text in the token. Writing replaces the whole text or, in a crash, loses it."""

    def read(self, place: int) -> str:
        """Return the text, or "" when there is none. Raises HsmFault, or EvidenceFault when two stand there."""

    def write(self, place: int, text: str) -> None:
        """Replace the text. Raises HsmFault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The last known head."""

    count: int
    """Entries of the journal."""
    head: bytes
    policy_hash: bytes


def read_anchor(store: AnchorStore) -> Anchor | None:
    """Return the newest anchor in the token, or None when there is none; raises EvidenceFault on other text."""
    anchors = [_parse(text) for text in map(store.read, PLACES) if text]
    newest = max(anchors, key=lambda anchor: anchor.count, default=None)
    if newest is not None and any(one.count == newest.count and one != newest for one in anchors):
        raise EvidenceFault("two different anchors stand in the token")
    return newest


def move_anchor(store: AnchorStore, anchor: Anchor) -> None:
    """Write the anchor over the older of the two places; raises HsmFault, after which either may stand there."""
    store.write(anchor.count % len(PLACES), _text(anchor))


def stands(store: AnchorStore, anchor: Anchor | None) -> bool:
    """Tell whether this anchor, the last one moved, is still in its place."""
    return anchor is None or store.read(anchor.count % len(PLACES)) == _text(anchor)


def claim(store: AnchorStore, owner: str) -> Anchor | None:
    """Take the token from whoever signed with it before, then return the newest anchor as `read_anchor`."""
    store.write(OWNER_PLACE, owner)
    return read_anchor(store)


def check_owner(store: AnchorStore, owner: str) -> None:
    """Raise EvidenceFault unless this process is still the one that may sign."""
    if store.read(OWNER_PLACE) != owner:
        raise EvidenceFault("another signer has taken the token")


def parse_anchor(text: str) -> Anchor:
    """Return the anchor that people wrote down, its name left out or not; raises EvidenceFault."""
    return _parse(text if text.startswith(_NAME) else _NAME + text)


def _text(anchor: Anchor) -> str:
    return f"{_NAME}{anchor.count} {anchor.head.hex()} {anchor.policy_hash.hex()}"


def _parse(text: str) -> Anchor:
    found = _TEXT.fullmatch(text)
    if found is None:
        raise EvidenceFault("the anchor cannot be read")
    return Anchor(count=int(found[1]), head=bytes.fromhex(found[2]), policy_hash=bytes.fromhex(found[3]))
