"""Publishing what is owed at a checkpoint, and reading one wallet's proof of it.

Publishing follows the sealed transfers since the publication before, keeps every wallet's balance and cuts each asset's tree into
pages. Reading looks up one balance and a few pages. The worker publishes; no query does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.kernel.ids import derived_uuid
from custody.seals import liability_store, store
from custody.seals.errors import HistoryAltered, NotInTree, NotSealed
from custody.seals.liabilities import LiabilityTree, SumNode, cut
from custody.seals.liability_store import LiabilityRow
from custody.seals.model import Seal
from custody.seals.pages import LeafMissing, Page, PagedTree, cut_pages, find_pages
from custody.seals.proof import build_liability_proof

ACTOR = "worker"
"""Who the audit log names when nobody asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What is owed to all wallets in one asset, as it was published."""

    asset: AssetId
    """What is owed."""
    sequence: int
    """Checkpoint up to which transfers count."""
    root: bytes
    """Hash that every wallet's proof leads to."""
    total: int
    """Atomic units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnProof:
    """One wallet's proof in one asset."""

    asset: AssetId
    """What is owed."""
    sequence: int
    """Checkpoint up to which transfers count."""
    balance: int
    """What is owed to the wallet, in atomic units."""
    total: int
    """What is owed to all."""
    root: bytes
    """What was published for all."""
    document: dict[str, object]
    """What `docs/verify_balance.py` checks."""


async def publish_due(uow: UnitOfWork, every: timedelta) -> int | None:
    """Publish the newest checkpoint when the one published last is so much older, or when none is. Returns its number if so."""
    newest, head = await store.load_last_checkpoint(uow), await liability_store.load_head(uow)
    if newest is None or newest.sequence == head:
        return None
    if head is not None:
        age = (await _seal(uow, newest.sequence)).sealed_at - (await _seal(uow, head)).sealed_at
        if age < every:
            return None
    return await publish(uow, ACTOR)


async def publish(uow: UnitOfWork, actor: str) -> int:
    """Publish what is owed at the newest checkpoint, per asset; returns the checkpoint's number. Once published, nothing is done.

    Raises NotSealed without a checkpoint, NegativeBalance when a wallet is below zero.
    """
    newest = await store.load_last_checkpoint(uow)
    if newest is None:
        raise NotSealed(tenant=uow.tenant)
    await uow.lock(f"liabilities/{uow.tenant}")
    head = await liability_store.load_head(uow)
    if head is not None and head >= newest.sequence:
        return head
    seal = await _seal(uow, newest.sequence)
    await liability_store.apply_changes(
        uow, 0 if head is None else (await _seal(uow, head)).to_xid, seal.to_xid
    )
    shown: dict[str, object] = {}
    for asset, wallets in sorted((await liability_store.load_balances(uow)).items()):
        row, pages = await asyncio.to_thread(_grow, asset, wallets)
        await liability_store.insert_row(uow, seal.sequence, row)
        await liability_store.write_pages(uow, seal.sequence, asset, pages)
        shown[asset] = {"total": str(row.total), "root": row.root.hex()}
    await liability_store.write_head(uow, seal.sequence)
    detail = {"sequence": seal.sequence, "seal": seal.hash.hex(), "assets": shown}
    await audit.record(uow, actor, "liabilities.publish", derived_uuid("liabilities", uow.tenant), detail)
    return seal.sequence


async def list_published(session: ReadSession) -> list[Published]:
    """What is owed at the checkpoint that was published last, per asset. Raises NotSealed while there is none."""
    sequence = await _head(session)
    rows = await liability_store.load_rows(session, sequence)
    return [
        Published(asset=parse_asset_id(asset), sequence=sequence, root=row.root, total=row.total)
        for asset, row in sorted(rows.items())
    ]


async def list_own_proofs(session: ReadSession, wallet_id: UUID) -> list[OwnProof]:
    """A wallet's proofs in all assets in which something was owed to it. Raises NotSealed."""
    await _head(session)
    owed = await liability_store.load_assets_of(session, wallet_id)
    return [await own_proof(session, wallet_id, parse_asset_id(asset)) for asset in owed]


async def own_proof(session: ReadSession, wallet_id: UUID, asset: AssetId) -> OwnProof:
    """A wallet's proof in one asset at the checkpoint that was published last. The wallet is one of the tenant's.

    Raises NotSealed while nothing is published, NotInTree when nothing was owed to it, HistoryAltered when the pages are not
    those of what was published.
    """
    found = await own_proofs(session, [wallet_id], asset)
    if wallet_id not in found:
        raise NotInTree(wallet=str(wallet_id), asset=asset.text)
    return found[wallet_id]


async def own_proofs(
    session: ReadSession, wallet_ids: Collection[UUID], asset: AssetId
) -> dict[UUID, OwnProof]:
    """The same for many wallets by as many statements as for one; those to which nothing was owed are missing."""
    sequence = await _head(session)
    row = (await liability_store.load_rows(session, sequence)).get(asset.text)
    owed = await liability_store.load_balances_of(session, asset.text, wallet_ids)
    if row is None or not owed:
        return {}
    tops = await liability_store.load_tops(session, sequence, asset.text)
    leaves = {wallet: cut(wallet, balance, row.secret) for wallet, balance in owed.items()}
    root = SumNode(hash=row.root, total=row.total)

    def prove(tree: PagedTree, wallet: UUID) -> OwnProof:
        parts = tree.prove(leaves[wallet])
        document = build_liability_proof(
            asset=asset.text, sequence=sequence, wallet=wallet, root=root, parts=parts
        )
        return OwnProof(
            asset=asset,
            sequence=sequence,
            balance=owed[wallet],
            total=row.total,
            root=row.root,
            document=document,
        )

    try:
        numbers = {number for each in leaves.values() for number in find_pages(each, tops)}
        tree = PagedTree(tops, await liability_store.load_pages(session, asset.text, numbers))
        return await asyncio.to_thread(lambda: {wallet: prove(tree, wallet) for wallet in owed})
    except LeafMissing as error:
        raise HistoryAltered(
            tenant=session.tenant,
            table="ledger_liability_pages",
            row=f"{sequence} {asset.text}",
            differs="they do not hold the wallet's balance; run audit liabilities",
        ) from error


def _grow(asset: str, wallets: dict[UUID, int]) -> tuple[LiabilityRow, list[Page]]:
    """A fresh tree: what is published of it, and its pages. Pure but for the secret."""
    secret = os.urandom(32)
    tree = LiabilityTree(wallets, secret)
    row = LiabilityRow(asset=asset, total=tree.root.total, root=tree.root.hash, secret=secret)
    return row, cut_pages(tree)


async def _head(session: ReadSession) -> int:
    sequence = await liability_store.load_head(session)
    if sequence is None:
        raise NotSealed(tenant=session.tenant)
    return sequence


async def _seal(session: ReadSession, sequence: int) -> Seal:
    (seal,) = await store.load_seals(session, sequence - 1, 1)
    return seal
