"""What is shown to others: the proof of a transfer, and what is owed to all wallets with each wallet's own proof."""

from __future__ import annotations

import os
from dataclasses import dataclass
from uuid import UUID

from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.kernel.ids import derived_uuid
from custody.ledger.errors import TransferNotFound
from custody.seals import liability_store, store
from custody.seals.errors import HistoryAltered, NotInTree, NotSealed
from custody.seals.liabilities import LiabilityTree
from custody.seals.liability_store import LiabilityRow
from custody.seals.model import Batch, Checkpoint, Seal
from custody.seals.proof import build_liability_proof, build_proof
from custody.signing.intents import org_name

_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetLiabilities:
    """What is owed to all wallets in one asset at one checkpoint."""

    asset: AssetId
    """What is owed."""
    sequence: int
    """The seal up to which transfers count."""
    tree: LiabilityTree
    """Root, total, and a proof for every wallet."""


async def prove(session: ReadSession, transfer_id: UUID, upto: int | None = None) -> dict[str, object]:
    """The inclusion proof of a transfer under its own seal's checkpoint, or under a later one (`upto`).

    Raises TransferNotFound; NotSealed while no signed seal holds it.
    """
    place = await store.find_place(session, transfer_id)
    if place is None:
        raise TransferNotFound(transfer_id=str(transfer_id))
    batch_id, leaf = place
    sequence = (await store.load_sealed(session, [batch_id])).get(batch_id)
    if sequence is None:
        raise NotSealed(transfer_id=str(transfer_id))
    seals, checkpoint = await _signed_run(session, sequence.sequence, upto)
    batches = await _batches_of(session, seals[0])
    position = next((n for n, one in enumerate(batches) if one.id == batch_id), None)
    rows = (await store.load_transfers(session, [batch_id]))[batch_id]
    if position is None or not leaf < len(rows) or rows[leaf]["id"] != transfer_id:
        raise HistoryAltered(
            tenant=session.tenant,
            table="ledger_transfers",
            row=transfer_id,
            differs="its place is not as it was sealed; run audit verify",
        )
    return build_proof(
        rows=rows,
        place=leaf,
        batches=batches,
        position=position,
        seals=seals,
        checkpoint=checkpoint,
        org=org_name(session.tenant),
    )


async def _signed_run(session: ReadSession, first: int, upto: int | None) -> tuple[list[Seal], Checkpoint]:
    last = first if upto is None else upto
    checkpoint = (await store.load_checkpoints(session, last, last)).get(last)
    seals = await store.load_seals(session, first - 1, max(0, last - first + 1))
    if checkpoint is None or not seals:
        raise NotSealed(sequence=last)
    return seals, checkpoint


async def _batches_of(session: ReadSession, seal: Seal) -> list[Batch]:
    found: list[Batch] = []
    while page := await store.load_range(
        session, seal.from_xid, seal.to_xid, after=found[-1].id if found else 0, limit=_PAGE
    ):
        found.extend(page)
    return found


async def publish_liabilities(uow: UnitOfWork, actor: str) -> list[AssetLiabilities]:
    """What is owed at the newest checkpoint, per asset; kept and audited at the first call, the same again after that.

    Balances follow from the sealed transfers alone, so that an export is enough to derive them. Raises NotSealed without a
    checkpoint, HistoryAltered when the transfers no longer make what was published.
    """
    newest = await store.load_last_checkpoint(uow)
    if newest is None:
        raise NotSealed(tenant=uow.tenant)
    await uow.lock(f"liabilities/{uow.tenant}")
    (seal,) = await store.load_seals(uow, newest.sequence - 1, 1)
    balances = await liability_store.load_wallet_balances(uow, seal.to_xid)
    published = await liability_store.load_rows(uow, seal.sequence)
    trees = []
    for asset, wallets in balances.items():
        known = published.get(asset)
        secret = os.urandom(32) if known is None else known.secret
        tree = LiabilityTree(wallets, secret)
        row = LiabilityRow(asset=asset, total=tree.root.total, root=tree.root.hash, secret=secret)
        if known is None:
            await liability_store.insert_row(uow, seal.sequence, row)
        elif known != row:
            raise _altered(uow, seal, asset)
        trees.append(AssetLiabilities(asset=parse_asset_id(asset), sequence=seal.sequence, tree=tree))
    for asset in published.keys() - balances.keys():
        raise _altered(uow, seal, asset)
    if not published and trees:
        await audit.record(
            uow, actor, "liabilities.publish", derived_uuid("liabilities", uow.tenant), _shown(seal, trees)
        )
    return trees


def prove_liability(liabilities: list[AssetLiabilities], wallet: UUID) -> list[dict[str, object]]:
    """The wallet's own proofs, one per asset in which it had a balance. Raises NotInTree when there is none."""
    proofs = []
    for one in liabilities:
        try:
            parts = one.tree.prove(wallet)
        except NotInTree:
            continue
        proofs.append(
            build_liability_proof(
                asset=one.asset.text, sequence=one.sequence, wallet=wallet, root=one.tree.root, parts=parts
            )
        )
    if not proofs:
        raise NotInTree(wallet=str(wallet))
    return proofs


def _altered(uow: UnitOfWork, seal: Seal, asset: str) -> HistoryAltered:
    return HistoryAltered(
        tenant=uow.tenant,
        table="ledger_liabilities",
        row=f"{seal.sequence} {asset}",
        differs="the sealed transfers do not make this root and total",
    )


def _shown(seal: Seal, trees: list[AssetLiabilities]) -> dict[str, object]:
    return {
        "sequence": seal.sequence,
        "seal": seal.hash.hex(),
        "assets": {
            one.asset.text: {"total": str(one.tree.root.total), "root": one.tree.root.hash.hex()}
            for one in trees
        },
    }
