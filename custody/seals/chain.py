"""What is hashed: the bytes of a batch and of a seal, and the signature under a seal. Pure, so that anybody can repeat it.

Like a transfer's, every encoding is a mark and the fields joined by `|`: integers in decimal, hashes in hexadecimal, moments as
microseconds since 1970 in UTC. The marks keep the kinds apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from custody.kernel.ids import TenantId
from custody.ledger.leaves import leaf_hash, root
from custody.seals.model import Batch, Checkpoint, Seal

GENESIS = bytes(32)
"""What the first seal of a tenant follows."""
MARK_BYTES = 8
"""How much of each leaf is kept beside a seal."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(count: int) -> datetime:
    """The moment so many microseconds after 1970."""
    return _EPOCH + count * _MICROSECOND


def marks(leaves: Sequence[bytes]) -> bytes:
    """The beginnings of leaf hashes, one after the other."""
    return b"".join(leaf[:MARK_BYTES] for leaf in leaves)


def batch_encoding(batch: Batch) -> bytes:
    """The bytes of a batch."""
    fields = (batch.tenant, batch.id, batch.xid, batch.transfers, batch.root.hex(), micros(batch.booked_at))
    return "|".join(("ledger-batch-v1", *map(str, fields))).encode()


def batch_leaf(batch: Batch) -> bytes:
    """The batch as a leaf of its seal's tree."""
    return leaf_hash(batch_encoding(batch))


def seal_encoding(seal: Seal) -> bytes:
    """The bytes of a seal: everything but its hash."""
    fields = (
        seal.tenant,
        seal.sequence,
        seal.from_batch,
        seal.to_batch,
        seal.from_xid,
        seal.to_xid,
        seal.batches,
        seal.root.hex(),
        seal.previous.hex(),
        micros(seal.sealed_at),
    )
    return "|".join(("ledger-seal-v1", *map(str, fields))).encode()


def seal_hash(seal: Seal) -> bytes:
    """What the next seal follows and a checkpoint signs."""
    return sha256(seal_encoding(seal)).digest()


def build_seal(
    *, tenant: TenantId, last: Seal | None, batches: Sequence[Batch], to_xid: int, sealed_at: datetime
) -> Seal:
    """The seal after `last` over these batches, which come in order of their numbers."""
    unhashed = Seal(
        tenant=tenant,
        sequence=1 if last is None else last.sequence + 1,
        from_batch=batches[0].id,
        to_batch=batches[-1].id,
        from_xid=0 if last is None else last.to_xid,
        to_xid=to_xid,
        batches=len(batches),
        root=root([batch_leaf(batch) for batch in batches]),
        previous=GENESIS if last is None else last.hash,
        hash=b"",
        sealed_at=sealed_at,
    )
    return replace(unhashed, hash=seal_hash(unhashed))


def is_signed(checkpoint: Checkpoint, message: bytes) -> bool:
    """Whether the checkpoint's signature is over this message by its key."""
    try:
        key = Ed25519PublicKey.from_public_bytes(checkpoint.public_key)
        key.verify(checkpoint.signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
