"""The proof that one transfer is under a signed seal, as JSON that `docs/verify_transfer.py` checks without us. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from custody.ledger.leaves import transfer_encoding
from custody.seals import chain, tree
from custody.seals.check import leaves_of
from custody.seals.liabilities import PartProof, SumNode
from custody.seals.model import Batch, Checkpoint, Seal, TransferRow

FORMAT = "custody-inclusion-v1"
LIABILITY_FORMAT = "custody-liability-v1"


def build_proof(
    *,
    rows: Sequence[TransferRow],
    place: int,
    batches: Sequence[Batch],
    position: int,
    seals: Sequence[Seal],
    checkpoint: Checkpoint,
    org: str,
) -> dict[str, object]:
    """The proof of the transfer at `place` of `rows`, the transfers of the batch at `position` of `batches`.

    `batches` are those of the first of `seals`; the last of `seals` is the one that `checkpoint` signs.
    """
    return {
        "format": FORMAT,
        "transfer": transfer_encoding(rows[place]).decode(),
        "transfer_path": _steps(tree.path(leaves_of(rows), place)),
        "batch": chain.batch_encoding(batches[position]).decode(),
        "batch_path": _steps(tree.path([chain.batch_leaf(one) for one in batches], position)),
        "seals": [chain.seal_encoding(seal).decode() for seal in seals],
        "checkpoint": {
            "org": org,
            "sequence": checkpoint.sequence,
            "public_key": checkpoint.public_key.hex(),
            "signature": checkpoint.signature.hex(),
        },
    }


def build_liability_proof(
    *, asset: str, sequence: int, wallet: UUID, root: SumNode, parts: Sequence[PartProof]
) -> dict[str, object]:
    """A wallet's own proof: its parts, and on every way up only hashes and sums."""
    return {
        "format": LIABILITY_FORMAT,
        "asset": asset,
        "sequence": sequence,
        "wallet": str(wallet),
        "balance": str(sum(part.amount for part in parts)),
        "root": root.hash.hex(),
        "total": str(root.total),
        "parts": [
            {
                "salt": part.salt.hex(),
                "amount": str(part.amount),
                "path": [[side, node.hash.hex(), str(node.total)] for side, node in part.steps],
            }
            for part in parts
        ],
    }


def _steps(steps: Sequence[tree.Step]) -> list[list[str]]:
    return [[side, neighbour.hex()] for side, neighbour in steps]
