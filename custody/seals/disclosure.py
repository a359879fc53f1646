"""What is shown to others: the proof of a transfer, and what is owed to all wallets with each wallet's own proof."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import UUID

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.ledger.errors import HistoryArchived, TransferNotFound
from custody.seals import liability_store, publication, service, store
from custody.seals.archives import month_of
from custody.seals.errors import HistoryAltered, NotInTree, NotSealed
from custody.seals.liabilities import LiabilityTree
from custody.seals.model import Batch, Checkpoint, Seal
from custody.seals.proof import build_liability_proof, build_proof
from custody.signing.intent_fields import org_name

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

    Raises TransferNotFound; NotSealed while no signed seal holds it; HistoryArchived when its month has left the database.
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
    if not rows and position is not None:
        await _demand_here(session, batches[position])
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


async def _demand_here(session: ReadSession, batch: Batch) -> None:
    month = month_of(batch.booked_at)
    for archive in await service.archives(session):
        if archive.month == month:
            raise HistoryArchived(until=archive.until.isoformat(), archived_to=archive.directory)


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
    """What is owed at the newest checkpoint, per asset; published at the first call, the same again after that.

    Whatever was published is derived again from all sealed transfers, which is why an export is enough to derive it, and why this
    is for auditors and not for queries. Raises NotSealed without a checkpoint, HistoryAltered when the transfers do not make what
    was published.
    """
    seal = await _seal_of(uow, await publication.publish(uow, actor))
    balances = await liability_store.derive_balances(uow, seal.to_xid)
    published = await liability_store.load_rows(uow, seal.sequence)
    for asset in published.keys() ^ balances.keys():
        raise _altered(uow, seal, asset)
    trees = []
    for asset, wallets in balances.items():
        known = published[asset]
        tree = await asyncio.to_thread(LiabilityTree, wallets, known.secret)
        if (tree.root.hash, tree.root.total) != (known.root, known.total):
            raise _altered(uow, seal, asset)
        trees.append(AssetLiabilities(asset=parse_asset_id(asset), sequence=seal.sequence, tree=tree))
    return trees


async def _seal_of(uow: UnitOfWork, sequence: int) -> Seal:
    (seal,) = await store.load_seals(uow, sequence - 1, 1)
    return seal


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
