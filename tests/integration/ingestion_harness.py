"""A tenant with vaults, and a worker's loop that a test turns by hand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import UUID

from custody.assets import service as assets
from custody.chains.address import EVM, namespace
from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.deposits import execution, key_pool
from custody.deposits import service as deposits
from custody.deposits.model import Deposit
from custody.holdings import halts
from custody.identity import service as identity
from custody.identity.model import Principal
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.clock import SystemClock
from custody.kernel.ids import CustomerId, PrincipalId, TenantId, WalletId, derived_uuid
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.wallets import service as wallets
from custody.wallets.model import DepositAddress, Vault
from ingestion import cursor
from ingestion.finality import Terms
from ingestion.health import Status
from ingestion.loop import Loop, Pace
from ingestion.metrics import Metrics
from ingestion.ports import ChainSource
from ingestion.reorg import FinalityRule
from ingestion.stellar.movements import EventReader
from ingestion.stellar.read import LedgerReader
from ingestion.stellar.sources import RpcLedgers
from ingestion.watch import build_watch
from tests.fakes.key_maker import FakeKeyMaker

OMNIBUS_REQUEST = derived_uuid("omnibus")


def open_ledgers(chain: ChainId, url: str, passphrase: str, db: Database) -> RpcLedgers:
    """A Stellar network's ledgers, every transaction of them proved."""
    reader = LedgerReader(chain, EventReader(passphrase), build_watch(chain, db), audit=True)
    return RpcLedgers(JsonRpc(url), reader)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A tenant's people and vaults, and short questions about its books."""

    db: Database
    tenant: TenantId
    chain: ChainId
    keys: FakeKeyMaker

    @property
    def principal(self) -> Principal:
        return Principal(
            tenant=self.tenant,
            id=PrincipalId(derived_uuid("principal")),
            subject="operator",
            scopes=frozenset({"operate"}),
        )

    async def list_asset(self, asset: AssetId, code: str, decimals: int) -> None:
        async with self.db.unit_of_work(None) as uow:
            await assets.register(uow, asset, code, decimals)

    async def open_wallet(self, name: str, kind: str = "customer") -> WalletId:
        async with self.db.unit_of_work(self.tenant) as uow:
            customer = await wallets.create_customer(
                uow,
                "test",
                CustomerId(derived_uuid("customer", name)),
                name=name,
                external_ref=name,
                kind=kind,
            )
            wallet = await wallets.create_wallet(
                uow, "test", WalletId(derived_uuid("wallet", name)), customer.id, name
            )
        return wallet.id

    async def open_omnibus(self) -> Vault:
        return await execution.create_vault(self.db, self.keys, self.principal, self.chain, OMNIBUS_REQUEST)

    async def fill_pool(self, low_water: int = 1, batch_size: int = 3) -> int:
        """Have keys made ahead, as the worker would."""
        return await key_pool.refill(
            self.db, self.keys, self.tenant, low_water=low_water, batch_size=batch_size
        )

    async def issue_address(self, wallet_id: WalletId, request_id: UUID | None = None) -> DepositAddress:
        """An address; on EVM chains there is always a key for it."""
        if namespace(self.chain) == EVM:
            await self.fill_pool()
        return await execution.issue_address(
            self.db,
            self.keys,
            self.principal,
            wallet_id,
            self.chain,
            request_id or derived_uuid("address of", wallet_id),
        )

    async def deposits(self) -> list[Deposit]:
        async with self.db.read(self.tenant) as session:
            return await deposits.list_deposits(session)

    async def owed(self, wallet_id: WalletId, asset: AssetId) -> int:
        async with self.db.read(self.tenant) as session:
            return (await ledger.balance(session, postings.wallet_account(wallet_id, asset))).posted

    async def suspended(self, asset: AssetId) -> int:
        async with self.db.read(self.tenant) as session:
            return (await ledger.balance(session, postings.suspense_account(asset))).posted

    async def held(self, vault: Vault, asset: AssetId) -> int:
        async with self.db.read(self.tenant) as session:
            return (await ledger.balance(session, postings.vault_account(vault.id, asset))).posted

    async def final_height(self) -> int:
        async with self.db.read(self.tenant) as session:
            found = await deposits.final_height(session, self.chain)
        return -1 if found is None else found.height


def build_loop(
    db: Database,
    source: ChainSource,
    fence: int,
    *,
    confirmations: int = 0,
    terms: Terms | None = None,
    start_height: int = 0,
    stop: asyncio.Event | None = None,
    metrics: Metrics | None = None,
) -> Loop:
    return Loop(
        db=db,
        source=source,
        pace=Pace(
            terms=terms or Terms(rule=FinalityRule(confirmations=confirmations)),
            start_height=start_height,
            poll_interval_s=0.01,
        ),
        fence=fence,
        stop=stop or asyncio.Event(),
        metrics=metrics or Metrics(source.chain, SystemClock()),
        status=Status(),
    )


async def decide_halt(db: Database, chain: ChainId, *, follow: bool, marks_spent: bool = False) -> None:
    """A person has looked at the chain's halt and decided."""
    async with db.unit_of_work(None) as uow:
        halt = await halts.find_open(uow, chain)
        assert halt is not None
        tenants = await identity.list_tenants(uow)
        await halts.decide(
            uow, tenants, "olga", halt.id, follow=follow, marks_spent=marks_spent, note="looked"
        )


async def take_fence(db: Database, chain: ChainId) -> int:
    async with db.unit_of_work(None) as uow:
        return await cursor.take_over(uow, chain)


async def catch_up(loop: Loop) -> None:
    """Step until there is nothing new."""
    while await loop.step():
        pass
