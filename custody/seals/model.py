"""Seals over the ledger's batches and the signatures under them.

A batch binds transfers by its Merkle root, in the transaction that wrote them. A seal binds a run of batches and the seal before
it. A checkpoint is an HSM key's signature under a seal. Whoever keeps one checkpoint can tell whether anything under it was
changed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId, WithdrawalId

TransferRow = Mapping[str, Any]
"""A row of `ledger_transfers`: the fields of `ledger.leaves.FIELDS`, and `batch_id` and `leaf`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One call that wrote transfers."""

    tenant: TenantId
    """Whose."""
    id: int
    """Its number; there may be gaps."""
    xid: int
    """The transaction that wrote it."""
    transfers: int
    """How many."""
    root: bytes
    """Merkle root over the transfers' leaves."""
    booked_at: datetime
    """When, by the database's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """All batches of the transactions from `from_xid` up to but not including `to_xid`, and the seal before."""

    tenant: TenantId
    """Whose."""
    sequence: int
    """1, 2, 3 … per tenant, without gaps."""
    from_batch: int
    """Lowest batch number in it."""
    to_batch: int
    """Highest batch number in it; batches between the two that commit later belong to a later seal."""
    from_xid: int
    """Where the seal before ended; 0 for the first."""
    to_xid: int
    """Every transaction below had ended when the seal was made, so that none can join it later."""
    batches: int
    """How many."""
    root: bytes
    """Merkle root over the batches, in order of their numbers."""
    previous: bytes
    """Hash of the seal before; 32 zero bytes for the first."""
    hash: bytes
    """SHA-256 over all of the above and the time (`chain.seal_encoding`)."""
    sealed_at: datetime
    """When, by the database's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBatch:
    """Which seal holds a batch, and the beginnings of its leaves, by which an altered transfer can be named."""

    tenant: TenantId
    """Whose."""
    batch_id: int
    """Which batch."""
    sequence: int
    """Which seal."""
    leaves: bytes
    """The first bytes of each leaf (`chain.marks`), in order. They locate; the root is what binds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signature under a seal."""

    tenant: TenantId
    """Whose."""
    sequence: int
    """Of which seal."""
    key_id: str
    """The key's id in the HSM, hexadecimal; what the signer is asked by."""
    public_key: bytes
    """Ed25519, 32 bytes; the private half is in the HSM and signs nothing but checkpoints."""
    signature: bytes
    """Ed25519, 64 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A month of transfers that has left the database."""

    tenant: TenantId
    """Whose."""
    month: date
    """Its first day, UTC."""
    until: datetime
    """Where it ends. Nothing that was booked before is in the database."""
    dated_to: datetime | None
    """The latest value date in it that is not the time of booking, if there is any."""
    batches: int
    """How many."""
    transfers: int
    """How many these hold."""
    sequence: int
    """The last seal that holds any of them."""
    directory: str
    """Where the operator said that the files are written to."""
    digest: bytes
    """SHA-256 over the names and digests of the tenant's files that hold the month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """An account's counters at the end of an archived month, or what one month adds to them."""

    version: int
    """Of its last entry."""
    debits_posted: int
    """Atomic units."""
    credits_posted: int
    """Atomic units."""
    debits_pending: int
    """Atomic units; of one month alone it may be below zero."""
    credits_pending: int
    """Atomic units; of one month alone it may be below zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How far a tenant's history was re-derived without finding a fault."""

    transfers: int
    """Rows whose leaves were derived again."""
    batches: int
    """Roots derived again, sealed or not."""
    archived: int
    """Batches of these whose transfers are archived: their recorded roots were used, which only the archive's files prove."""
    unsealed: int
    """Batches of these that no seal holds yet."""
    seals: int
    """Links of the chain."""
    checkpoints: int
    """Signatures."""
    keys: tuple[bytes, ...]
    """Public keys under the checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """A request to write a signed seal's hash to a chain that others can read."""

    tenant: TenantId
    """Whose."""
    sequence: int
    """Of which seal."""
    chain: ChainId
    """Stellar chain that it is written to."""
    number: int
    """1 for the first try of this seal on this chain."""
    withdrawal_id: WithdrawalId
    """Operation on the vault that carries it out, from the quorum to the block."""
    seal_hash: bytes
    """What the transaction carries as its memo."""
    created_at: datetime
    """When it was asked for, by the database's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorView:
    """An anchor with what became of it."""

    anchor: Anchor
    """What was asked for."""
    state: str
    """Of its operation on the vault: one of `withdrawals.transitions.WITHDRAWALS`. `settled` is on chain and final."""
    account: str
    """The vault's account, which pays itself."""
    tx_hash: str | None
    """The transaction, once it is signed."""
    height: int | None
    """Ledger that holds it, as our own ingestion saw it."""
