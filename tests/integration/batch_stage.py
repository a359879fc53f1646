"""Batches as tests ask for them and decide about them."""

from __future__ import annotations

from uuid import UUID

from custody.kernel.assetid import AssetId
from custody.kernel.ids import new_uuid
from custody.policy.model import Word
from custody.withdrawals import batches
from custody.withdrawals.batches import RequestBatch, line_id
from custody.withdrawals.model import BatchView, RequestWithdrawal
from tests.fakes.withdrawal_world import OUTSIDE, WALLET, XLM, World, make_batch_decision


def wanted(*amounts: int, batch_id: UUID | None = None, asset: AssetId = XLM) -> RequestBatch:
    batch_id = batch_id or new_uuid()
    lines = tuple(
        RequestWithdrawal(
            id=line_id(batch_id, place),
            wallet_id=WALLET,
            asset=asset,
            destination=OUTSIDE[asset.chain],
            amount=amount,
        )
        for place, amount in enumerate(amounts)
    )
    return RequestBatch(id=batch_id, lines=lines, receivers=(None,) * len(lines))


async def ask(world: World, command: RequestBatch) -> BatchView:
    async with world.db.unit_of_work(world.tenant) as uow:
        return await batches.request(
            uow, world.principal, command, settings=world.settings, clock=world.clock
        )


async def decide(world: World, asked: BatchView, name: str, word: Word = Word.APPROVE) -> BatchView:
    decision = make_batch_decision(asked.batch.document, name, word)
    async with world.db.unit_of_work(world.tenant) as uow:
        return await batches.decide(uow, asked.batch.id, decision)


def states(view: BatchView) -> list[str]:
    return [line.state for line in view.lines]


async def shown(world: World, asked: BatchView) -> BatchView:
    async with world.db.read(world.tenant) as session:
        return await batches.view(session, asked.batch.id)
