"""The anchor: the journal's head and the policy's hash, kept as an object in the HSM token, out of the disk's
reach.

A journal that is shorter than the anchor says, or that says something else at the anchored place, was rolled
back or cut.
"""

from dataclasses import dataclass
from typing import Protocol

from signer.refusal import EvidenceFault

TAG = b"custody-anchor-v1\x00"
SIZE = len(TAG) + 8 + 32 + 32


class AnchorStore(Protocol):
    """Where the anchor's bytes live: data objects of the token."""

    def read(self) -> list[bytes]:
        """Return the values of all anchor objects."""

    def replace(self, value: bytes) -> None:
        """Create an anchor object with this value, then destroy all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The last known head."""

    count: int
    head: bytes
    policy_hash: bytes


def read_anchor(store: AnchorStore) -> Anchor | None:
    """Return the newest anchor in the token, or None when there is none; raises EvidenceFault on other bytes.

    Two objects can stand there after a crash between creating the new and destroying the old; the higher
    count is newer.
    """
    anchors = [_parse(value) for value in store.read()]
    newest = max(anchors, key=lambda anchor: anchor.count, default=None)
    if newest is not None and any(one.count == newest.count and one != newest for one in anchors):
        raise EvidenceFault("two different anchors stand in the token")
    return newest


def write_anchor(store: AnchorStore, anchor: Anchor) -> None:
    """Make this the token's only anchor."""
    store.replace(TAG + anchor.count.to_bytes(8, "big") + anchor.head + anchor.policy_hash)


def _parse(value: bytes) -> Anchor:
    if len(value) != SIZE or not value.startswith(TAG):
        raise EvidenceFault("the anchor in the token cannot be read")
    rest = value[len(TAG) :]
    return Anchor(count=int.from_bytes(rest[:8], "big"), head=rest[8:40], policy_hash=rest[40:])
