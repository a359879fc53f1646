"""Re-deriving a tenant's history from its rows, step by step; the first row that is not what was sealed stops it. Pure.

The rows come from the database or from an export; the checker trusts none of them. Feed it, per seal: `begin`, every batch with
its transfers, `end`. Then the batches that no seal holds yet, by `unsealed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from custody.kernel.ids import TenantId
from custody.ledger.leaves import leaf_hash, root, transfer_encoding
from custody.seals import chain
from custody.seals.errors import CheckpointUntrusted, HistoryAltered
from custody.seals.model import Batch, Checkpoint, Seal, SealedBatch, TransferRow, Verified

Message = Callable[[TenantId, int, bytes], bytes]
"""Tenant, number and hash of a seal to the bytes that a checkpoint key signs."""


def leaves_of(rows: Sequence[TransferRow]) -> list[bytes]:
    """The leaves of a batch's transfers, which come in order of `leaf`."""
    return [leaf_hash(transfer_encoding(row)) for row in rows]


class Checker:
    """One walk over one tenant's history. Every method raises HistoryAltered at the first bad row."""

    def __init__(
        self,
        tenant: TenantId,
        message: Message,
        trusted: frozenset[bytes] | None,
        after: Seal | None = None,
    ) -> None:
        """`trusted` are the public keys whose checkpoints count; None accepts any key and leaves the comparison to the reader
        of `Verified.keys`. `after` is the seal before the first that is fed, where that was checked elsewhere."""
        self._tenant, self._message, self._trusted = tenant, message, trusted
        self._last = after
        self._seal: Seal | None = None
        self._batch_leaves: list[bytes] = []
        self._ids: list[int] = []
        self._transfers = self._batches = self._archived = self._unsealed = self._checkpoints = 0
        self._keys: dict[bytes, None] = {}
        self._gap: int | None = None

    def begin(self, seal: Seal) -> None:
        """The next seal, its place in the chain."""
        last = self._last
        expected = (1, 0, chain.GENESIS) if last is None else (last.sequence + 1, last.to_xid, last.hash)
        if seal.sequence != expected[0]:
            self._fail("ledger_seals", expected[0], "the seal is missing")
        if seal.tenant != self._tenant:
            self._fail("ledger_seals", seal.sequence, "tenant")
        if chain.seal_hash(seal) != seal.hash:
            self._fail("ledger_seals", seal.sequence, "hash does not follow from the row")
        if (seal.from_xid, seal.previous) != expected[1:]:
            self._fail("ledger_seals", seal.sequence, "it does not follow the seal before")
        self._seal, self._batch_leaves, self._ids = seal, [], []

    def batch(self, batch: Batch, rows: Sequence[TransferRow] | None, sealed: SealedBatch | None) -> None:
        """The next batch of the seal with its transfers in order, and what was kept of it when it was sealed.

        Without rows it is archived: its recorded root counts, which the seal binds, and its transfers are proved elsewhere."""
        seal = self._open_seal()
        if sealed is None:
            self._fail("ledger_sealed_batches", batch.id, "the row is missing")
        if sealed.sequence != seal.sequence:
            self._fail("ledger_sealed_batches", batch.id, "sequence")
        if rows is None:
            self._batches += 1
            self._archived += 1
        elif chain.marks(self._check_batch(batch, rows, sealed.leaves)) != sealed.leaves:
            self._fail("ledger_sealed_batches", batch.id, "leaves")
        self._batch_leaves.append(chain.batch_leaf(batch))
        self._ids.append(batch.id)

    def end(self, checkpoint: Checkpoint | None) -> None:
        """All batches of the seal were fed: its root, and the signature under it where there is one yet."""
        seal = self._open_seal()
        if len(self._ids) != seal.batches:
            self._fail(
                "ledger_batches",
                f"{seal.from_batch}..{seal.to_batch}",
                f"seal {seal.sequence} holds {seal.batches} batches, {len(self._ids)} are there",
            )
        if (self._ids[0], self._ids[-1]) != (seal.from_batch, seal.to_batch):
            self._fail("ledger_seals", seal.sequence, "from_batch or to_batch")
        if root(self._batch_leaves) != seal.root:
            self._fail(
                "ledger_batches",
                f"{seal.from_batch}..{seal.to_batch}",
                f"the batches are not those of the root of seal {seal.sequence}",
            )
        self._check_checkpoint(seal, checkpoint)
        self._last, self._seal = seal, None

    def unsealed(self, batch: Batch, rows: Sequence[TransferRow]) -> None:
        """A batch that no seal holds yet."""
        if self._last is not None and batch.xid < self._last.to_xid:
            self._fail("ledger_batches", batch.id, "it lies below the last seal and is in none")
        self._check_batch(batch, rows, None)
        self._unsealed += 1

    def result(self) -> Verified:
        """What was checked."""
        return Verified(
            transfers=self._transfers,
            batches=self._batches,
            archived=self._archived,
            unsealed=self._unsealed,
            seals=0 if self._last is None else self._last.sequence,
            checkpoints=self._checkpoints,
            keys=tuple(self._keys),
        )

    def _check_batch(self, batch: Batch, rows: Sequence[TransferRow], marks: bytes | None) -> list[bytes]:
        leaves = leaves_of(rows)
        if marks is not None:
            self._locate(batch, rows, leaves, marks)
        for place, row in enumerate(rows):
            if (row["leaf"], row["batch_id"]) != (place, batch.id):
                self._fail("ledger_transfers", row["id"], f"leaf, expected {place} of batch {batch.id}")
        if len(rows) != batch.transfers:
            self._fail("ledger_batches", batch.id, f"{batch.transfers} transfers, {len(rows)} are there")
        if not leaves or root(leaves) != batch.root:
            self._fail("ledger_batches", batch.id, "root does not follow from the transfers")
        self._batches += 1
        self._transfers += len(rows)
        return leaves

    def _locate(
        self, batch: Batch, rows: Sequence[TransferRow], leaves: Sequence[bytes], marks: bytes
    ) -> None:
        """Name the transfer whose leaf is not the one that was sealed, when the batch does not make its root."""
        size = chain.MARK_BYTES
        kept = [marks[at : at + size] for at in range(0, len(marks), size)]
        if len(kept) != batch.transfers or root_matches(leaves, batch.root):
            return
        there = {row["leaf"]: place for place, row in enumerate(rows)}
        for leaf in range(len(kept)):
            if leaf not in there:
                self._fail("ledger_transfers", f"batch {batch.id} leaf {leaf}", "the row is missing")
        wrong = [row for row, leaf in zip(rows, leaves, strict=True) if leaf[:size] != self._kept(kept, row)]
        if wrong:
            self._fail("ledger_transfers", wrong[0]["id"], "its leaf is not the one that was sealed")

    @staticmethod
    def _kept(kept: Sequence[bytes], row: TransferRow) -> bytes | None:
        return kept[row["leaf"]] if 0 <= row["leaf"] < len(kept) else None

    def _check_checkpoint(self, seal: Seal, checkpoint: Checkpoint | None) -> None:
        if checkpoint is None:
            # The newest seals may wait for their signature; one before a signed seal may not.
            self._gap = seal.sequence if self._gap is None else self._gap
            return
        if self._gap is not None:
            self._fail("ledger_checkpoints", self._gap, "the signature is missing, later ones are there")
        if not chain.is_signed(checkpoint, self._message(self._tenant, seal.sequence, seal.hash)):
            self._fail("ledger_checkpoints", seal.sequence, "the signature is not by its key over the seal")
        if self._trusted is not None and checkpoint.public_key not in self._trusted:
            raise CheckpointUntrusted(
                tenant=self._tenant, sequence=seal.sequence, public_key=checkpoint.public_key.hex()
            )
        self._checkpoints += 1
        self._keys[checkpoint.public_key] = None

    def _open_seal(self) -> Seal:
        if self._seal is None:
            raise ValueError("a batch or an end came without a seal")
        return self._seal

    def _fail(self, table: str, row: object, differs: str) -> NoReturn:
        raise HistoryAltered(tenant=self._tenant, table=table, row=row, differs=differs)


def root_matches(leaves: Sequence[bytes], expected: bytes) -> bool:
    """Whether these leaves make this root."""
    return bool(leaves) and root(leaves) == expected
