"""Who stops and resumes, and what they stop: for the tests of kill switches."""

from __future__ import annotations

from uuid import UUID

from custody.audit import service as audit
from custody.db.session import Database
from custody.exchanges.model import Rate, RequestExchange, Rounding
from custody.identity.model import Principal
from custody.kernel.ids import (
    CustomerId,
    ExchangeId,
    PrincipalId,
    TenantId,
    TransferId,
    WalletId,
    new_uuid,
)
from custody.kernel.money import Amount
from custody.switches import service as switches
from custody.switches.model import Place, Switch
from custody.transfers.model import RequestTransfer
from custody.wallets import service as wallets
from tests.fakes.withdrawal_world import ETH, START, WALLET, XLM, World


def operator(tenant: TenantId, name: str) -> Principal:
    return Principal(tenant=tenant, id=PrincipalId(new_uuid()), subject=name, scopes=frozenset({"operate"}))


async def stop(db: Database, tenant: TenantId, place: Place, switch_id: UUID | None = None) -> Switch:
    async with db.unit_of_work(tenant) as uow:
        return await switches.stop(
            uow, operator(tenant, "olga"), switch_id or new_uuid(), place, "something is wrong"
        )


async def resume(db: Database, switch: Switch, tenant: TenantId) -> Switch:
    async with db.unit_of_work(tenant) as uow:
        await switches.propose_resume(uow, operator(tenant, "olga"), switch.id, "it is right again")
    async with db.unit_of_work(tenant) as uow:
        return await switches.confirm_resume(uow, operator(tenant, "otto"), switch.id, "seen")


async def actions(world: World) -> list[str]:
    """The audit log's actions in their order."""
    async with world.db.read(world.tenant) as session:
        return [entry.action for entry in await audit.page(session, 0, 1000)]


async def second_wallet(world: World) -> WalletId:
    wallet, customer = WalletId(new_uuid()), CustomerId(new_uuid())
    async with world.db.unit_of_work(world.tenant) as uow:
        await wallets.create_customer(uow, "test", customer, name="Bert", external_ref="bert")
        await wallets.create_wallet(uow, "test", wallet, customer, "main")
    return wallet


def transfer_to(other: WalletId) -> RequestTransfer:
    return RequestTransfer(
        id=TransferId(new_uuid()),
        source_wallet_id=WALLET,
        destination_wallet_id=other,
        amount=Amount(XLM, 100),
        fee=None,
    )


def exchange_with(other: WalletId) -> RequestExchange:
    return RequestExchange(
        id=ExchangeId(new_uuid()),
        source_wallet_id=WALLET,
        destination_wallet_id=other,
        sold=Amount(ETH, 100),
        bought_asset=XLM,
        rate=Rate(numerator=1, denominator=2, source="desk", quoted_at=START),
        rounding=Rounding.FLOOR,
        fee=None,
    )
