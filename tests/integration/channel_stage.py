"""A tenant on a local Stellar network with real XDR: the signer's own decisions, our ingestion, and a worker turned by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from custody.assets import service as assets
from custody.chains.jsonrpc import JsonRpc
from custody.chains.ports import Head, Submission
from custody.chains.stellar.rpc import StellarRpc
from custody.channels import execution as channels
from custody.db.session import Database, UnitOfWork
from custody.deposits import execution as deposits
from custody.holdings import service as holdings
from custody.identity.model import Principal
from custody.kernel.assetid import AssetId, ChainId, native
from custody.kernel.clock import SystemClock
from custody.kernel.ids import (
    CustomerId,
    PrincipalId,
    TenantId,
    VaultId,
    WalletId,
    WithdrawalId,
    derived_uuid,
    new_uuid,
)
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.policy import service as policies
from custody.settings import Settings
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import execution, receivers
from custody.withdrawals import service as withdrawals
from custody.withdrawals.execution import Failure
from custody.withdrawals.model import NO_MEMO, Attempt, Memo, RequestWithdrawal, Withdrawal
from custody.withdrawals.ports import Means
from devnet.stellar.network import LocalNetwork
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served
from ingestion.loop import Loop
from ingestion.stellar.sources import RpcLedgers
from tests.fakes.faults import Crash, Faults
from tests.fakes.signer_at_hand import SignerAtHand
from tests.fakes.signer_people import PASSPHRASE, make_policy, make_rule
from tests.integration.ingestion_harness import build_loop, catch_up, open_ledgers, take_fence

CHAIN = ChainId("stellar:devnet")
XLM = native(CHAIN)
CUSTOMER = CustomerId(derived_uuid("customer"))
WALLET = WalletId(derived_uuid("wallet"))
DEPOSIT = 500 * 10**7
CHANNEL_FULL = 12_000_000
FEES_FULL = 20_000_000
BUMP_MAX = 200_000
FEE_MAX = 50_000


class StageClock:
    """One clock for custody, signer and network; a test moves it."""

    def __init__(self) -> None:
        self.ahead_s = 0

    def now(self) -> datetime:
        return SystemClock().now() + timedelta(seconds=self.ahead_s)

    def unix_time(self) -> int:
        return int(self.now().timestamp())


class FaultyRpc(StellarRpc):
    """The real client; passes the points `before reserve`, `before submit` and `after submit`."""

    def __init__(self, url: str, faults: Faults) -> None:
        super().__init__(CHAIN, JsonRpc(url), PASSPHRASE)
        self._faults = faults

    async def submit(self, tx: bytes, tx_hash: str) -> Submission:
        self._faults.reach("before submit")
        answer = await super().submit(tx, tx_hash)
        self._faults.reach("after submit")
        return answer

    async def head(self) -> Head:
        self._faults.reach("before reserve")
        return await super().head()


def make_network(clock: StageClock) -> LocalNetwork:
    """A network that closes a ledger when it is told to, under the passphrase of the signer's test policy."""
    return LocalNetwork(passphrase=PASSPHRASE, clock=clock.unix_time)


def make_automatic(name: str, kind: str, amount_max: int, fee_max: int = FEE_MAX) -> dict[str, object]:
    """A rule that asks nobody for native money of this kind."""
    window = {"seconds": 3600, "amount_max": str(10**12), "count_max": 10_000}
    return make_rule(
        name,
        chain=CHAIN,
        kind=kind,
        asset="native",
        amount_max=str(amount_max),
        fee_max=str(fee_max),
        windows=[window],
        approvals=[],
    )


def make_stage_policy(*more: dict[str, object]) -> dict[str, object]:
    """What helpers need and small payments happen by themselves; two people for all else, but no account is opened for more.
    The rules of `more` come first."""
    base = make_policy()
    kept = [rule for rule in base["allow"] if rule["id"] not in ("stellar", "evm")]  # type: ignore[index,union-attr]  # a table
    people = {"chain": CHAIN, "amount_max": str(2**63 - 1), "fee_max": "100000"}
    rules = [
        *more,
        make_automatic("opening", "stellar_create_account", 3 * 10**7),
        make_automatic("filling", "stellar_payment", 3 * 10**7, 10**6),
        make_automatic("small", "stellar_channel_payment", 10**7),
        make_automatic("bumps", "stellar_fee_bump", 0, BUMP_MAX),
        *(
            make_rule(kind, kind=kind, **people)
            for kind in ("stellar_payment", "stellar_channel_payment", "stellar_change_trust")
        ),
    ]
    return base | {"allow": [*rules, *kept]}


def make_settings(url: str, **changes: object) -> Settings:
    """Settings of the one chain."""
    chain = {
        "id": CHAIN,
        "kind": "stellar",
        "rpc_url": url,
        "network_passphrase": PASSPHRASE,
        "confirmations": 0,
        "max_fee_stroops": FEE_MAX,
        "tx_valid_s": 300,
        "tx_valid_ledgers": 10,
        "channels": 3,
        "channel_balance_stroops": CHANNEL_FULL,
        "fee_bump_max_stroops": BUMP_MAX,
        "fee_account_balance_stroops": FEES_FULL,
    } | changes
    return Settings(
        environment="development",
        database={"url": "postgresql://nobody@127.0.0.1/none"},  # type: ignore[arg-type]  # pydantic checks each value
        redis={"url": "redis://127.0.0.1:1/0"},  # type: ignore[arg-type]
        signer={"socket": "/nonexistent/signer.sock"},  # type: ignore[arg-type]
        api={"port": 1},  # type: ignore[arg-type]
        intent_valid_s=3600,
        chains=[chain],  # type: ignore[arg-type]
    )


@dataclass(kw_only=True)
class Stage:
    """One tenant, one network, and everything between."""

    db: Database
    tenant: TenantId
    served: Served
    outsider: Outsider
    means: Means
    signer: SignerAtHand
    faults: Faults
    clock: StageClock
    source: RpcLedgers
    loop: Loop
    omnibus: Vault
    stranger: str
    made: list[Withdrawal] = field(default_factory=list)

    @property
    def principal(self) -> Principal:
        return Principal(
            tenant=self.tenant,
            id=PrincipalId(derived_uuid("principal")),
            subject="maker",
            scopes=frozenset({"write"}),
        )

    async def tend(self) -> list[WithdrawalId]:
        """One round of the worker's care for helpers."""
        means = self.means
        return await channels.tend(means.db, self.signer, means.settings, means.clock, self.tenant)

    async def request(
        self,
        amount: int = 1000,
        destination: str = "",
        asset: AssetId = XLM,
        *,
        asks: bool = True,
        memo: Memo = NO_MEMO,
    ) -> Withdrawal:
        """A withdrawal, with the question to the chain that comes first."""
        wanted = RequestWithdrawal(
            id=WithdrawalId(new_uuid()),
            wallet_id=WALLET,
            asset=asset,
            destination=destination or self.stranger,
            amount=amount,
            memo=memo,
        )
        found = await receivers.look_up(self.means.clients, asset, wanted.destination) if asks else None
        async with self.db.unit_of_work(self.tenant) as uow:
            made = await withdrawals.request(
                uow,
                self.principal,
                wanted,
                settings=self.means.settings,
                clock=self.means.clock,
                receiver=found,
            )
        self.made.append(made)
        return made

    async def work(self, *, dies: bool = False) -> list[Failure]:
        """Time passes, and a worker does all that is due; with `dies` one by one, until it is dead."""
        async with self.db.unit_of_work(self.tenant) as uow:
            await make_due(uow)
        failures: list[Failure] = []
        try:
            failures = await execution.advance_due(self.means, self.tenant, at_once=1 if dies else 8)
        except* Crash:
            if not dies:
                raise
        return failures

    async def close(self) -> int:
        """One ledger, and our ingestion of it."""
        self.served.network.close()
        await catch_up(self.loop)
        return self.served.network.latest.sequence

    async def settle_all(self, rounds: int = 20) -> None:
        """Work and close until nothing is open."""
        for _ in range(rounds):
            await self.work()
            await self.close()
            if not await self.open_ids():
                return
        raise AssertionError(f"still open: {await self.open_ids()}")

    async def open_ids(self) -> list[WithdrawalId]:
        states = ("awaiting_approval", "approved", "signing", "broadcasting", "confirming")
        async with self.db.read(self.tenant) as session:
            return [
                each.id for each in await withdrawals.list_withdrawals(session, limit=1000, states=states)
            ]

    async def state(self, withdrawal: Withdrawal) -> str:
        async with self.db.read(self.tenant) as session:
            return (await withdrawals.get(session, withdrawal.id)).state

    async def get(self, withdrawal_id: WithdrawalId) -> Withdrawal:
        async with self.db.read(self.tenant) as session:
            return await withdrawals.get(session, withdrawal_id)

    async def attempts(self, withdrawal: Withdrawal) -> list[Attempt]:
        async with self.db.read(self.tenant) as session:
            return await withdrawals.list_attempts(session, [withdrawal.id])

    async def of_kind(self, kind: str) -> list[Withdrawal]:
        async with self.db.read(self.tenant) as session:
            found = await withdrawals.list_withdrawals(session, limit=1000)
        return [each for each in found if each.kind == kind]

    async def vaults(self, purpose: str) -> list[Vault]:
        async with self.db.read(self.tenant) as session:
            return await wallets.list_vaults(session, CHAIN, purpose)

    async def booked(self, vault_id: VaultId) -> int:
        async with self.db.read(self.tenant) as session:
            return (await ledger.balance(session, postings.vault_account(vault_id, XLM))).posted

    async def owed(self) -> int:
        async with self.db.read(self.tenant) as session:
            return (await ledger.balance(session, postings.wallet_account(WALLET, XLM))).available

    async def demand_books_equal_chain(self) -> None:
        """Every vault to the stroop, no break, nothing in suspense but what friendbot gave, and books that balance."""
        async with self.db.read(self.tenant) as session:
            assert not any((await ledger.trial_balance(session)).values())
            assert await holdings.count_breaks(session, CHAIN) == 0
            for vault in await wallets.list_vaults(session, CHAIN):
                held = (await ledger.balance(session, postings.vault_account(vault.id, XLM))).posted
                assert held == (self.served.network.balance(vault.account) or 0), vault.purpose

    def order(self, **faults: object) -> None:
        """Have the network misbehave in this way, and in no other."""
        self.served.network.order_faults({"clear": True} | faults)

    async def aclose(self) -> None:
        await self.source.aclose()
        for client in self.means.clients.values():
            await client.aclose()

    def paid_to(self, account: str) -> int:
        """What the network says that somebody holds."""
        return self.served.network.balance(account) or 0


async def open_stage(
    database: Database,
    tenant: TenantId,
    served: Served,
    outsider: Outsider,
    folder: Path,
    clock: StageClock,
    *rules: dict[str, object],
) -> Stage:
    """A funded omnibus vault and a wallet with money; no helper is there yet. `rules` are added to the policy's."""
    faults = Faults()
    signer = SignerAtHand(folder, make_stage_policy(*rules), faults, clock.unix_time)
    client = FaultyRpc(served.url, faults)
    means = Means(
        db=database,
        signer=signer,
        clients={CHAIN: client},
        settings=make_settings(served.url),
        clock=clock,
    )
    source = open_ledgers(CHAIN, served.url, PASSPHRASE, database)
    fence = await take_fence(database, CHAIN)
    stage = Stage(
        db=database,
        tenant=tenant,
        served=served,
        outsider=outsider,
        means=means,
        signer=signer,
        faults=faults,
        clock=clock,
        source=source,
        loop=build_loop(database, source, fence),
        omnibus=await _open_books(database, tenant, signer),
        stranger=outsider.new_account().public_key,
    )
    address = await deposits.issue_address(
        database, signer, stage.principal, WALLET, CHAIN, derived_uuid("address")
    )
    outsider.fund(stage.omnibus.account)
    outsider.pay(outsider.new_account(), address.address, DEPOSIT)
    await catch_up(stage.loop)
    assert await stage.owed() == DEPOSIT
    return stage


async def _open_books(database: Database, tenant: TenantId, signer: SignerAtHand) -> Vault:
    operator = Principal(
        tenant=tenant,
        id=PrincipalId(derived_uuid("operator")),
        subject="operator",
        scopes=frozenset({"operate"}),
    )
    async with database.unit_of_work(None) as uow:
        await policies.adopt(uow, await signer.get_policy())
        await assets.register(uow, XLM, "XLM", 7)
    async with database.unit_of_work(tenant) as uow:
        customer = await wallets.create_customer(uow, "test", CUSTOMER, name="Ada", external_ref="ada")
        await wallets.create_wallet(uow, "test", WALLET, customer.id, "main")
    return await deposits.create_vault(database, signer, operator, CHAIN, derived_uuid("omnibus"))


async def open_channels(stage: Stage) -> Sequence[Vault]:
    """Let the system make its helpers: one refill at a time of each, all from the one omnibus vault."""
    assert len(await stage.tend()) == 4
    await stage.settle_all()
    assert await stage.tend() == []
    return await stage.vaults("channels")


async def make_due(uow: UnitOfWork) -> None:
    """Time passes: whatever waits for a moment is due."""
    await uow.conn.execute(
        text("UPDATE withdrawals SET next_step_at = clock_timestamp() WHERE next_step_at IS NOT NULL")
    )
