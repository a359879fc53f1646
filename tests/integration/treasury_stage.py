"""A tenant on a real anvil that sweeps: the signer's own decisions, our ingestion, a worker turned by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from custody.chains.evm.address import parse_address
from custody.chains.evm.rpc import EvmRpc
from custody.chains.jsonrpc import JsonRpc
from custody.chains.ports import Submission
from custody.db.session import Database
from custody.deposits import execution as deposits
from custody.holdings import service as holdings
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.kernel.ids import TenantId, WalletId, WithdrawalId, derived_uuid
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.policy import service as policies
from custody.settings import Settings
from custody.treasury import execution as treasury
from custody.treasury import service
from custody.treasury.model import Holding, SweepRule, Target, Verdict
from custody.wallets import service as wallets
from custody.wallets.model import DepositAddress, Vault
from custody.withdrawals import execution
from custody.withdrawals import service as withdrawals
from custody.withdrawals.execution import Failure
from custody.withdrawals.model import Withdrawal
from custody.withdrawals.ports import Means
from devnet.anvil import CHAIN_ID
from devnet.evm import Outsider
from ingestion.evm.worker import build_source
from ingestion.loop import Loop
from tests.fakes.faults import Crash, Faults
from tests.fakes.signer_at_hand import SignerAtHand
from tests.fakes.signer_people import make_policy, make_rule
from tests.fakes.withdrawal_world import make_decision
from tests.integration.channel_stage import StageClock, make_due
from tests.integration.evm_stage import CHAIN, ETH, evm_settings
from tests.integration.ingestion_harness import Desk, build_loop, catch_up, take_fence

GAS_TOKEN, GAS_NATIVE = 100_000, 21_000
FILLED = 2 * 10**17
"""What the gas vault is filled up to."""


class FaultyEvm(EvmRpc):
    """The real client; passes the points `before submit` and `after submit`."""

    def __init__(self, url: str, faults: Faults) -> None:
        super().__init__(CHAIN, JsonRpc(url), CHAIN_ID)
        self._faults = faults

    async def submit(self, tx: bytes, tx_hash: str) -> Submission:
        self._faults.reach("before submit")
        answer = await super().submit(tx, tx_hash)
        self._faults.reach("after submit")
        return answer


def make_treasury_policy(token: str) -> dict[str, object]:
    """Sweeps inward and gas outward ask nobody; what leaves the cold vault asks three people, all else two."""

    def inward(name: str, vault: str, into: str, kind: str = "evm_sweep", asset: str = "native") -> object:
        return make_rule(
            name,
            vault=vault,
            kind=kind,
            asset=asset,
            destinations=[f"vault:{into}"],
            windows=[{"seconds": 3600, "amount_max": str(10**22), "count_max": 1000}],
            approvals=[],
        )

    base = make_policy()
    rules = [
        inward("sweep-ether", "deposit", "omnibus"),
        inward("sweep-token", "deposit", "omnibus", "evm_erc20_sweep", token),
        inward("gas", "gas", "deposit"),
        inward("gas-filling", "omnibus", "gas"),
        make_rule("cold", vault="cold", approvals=[{"group": "treasury", "threshold": 3}]),
    ]
    return base | {"allow": [*rules, *base["allow"]]}  # type: ignore[misc]  # a table


@dataclass(kw_only=True)
class TreasuryStage:
    """All of it. Blocks come when `mine` is called, and are taken in at once."""

    desk: Desk
    means: Means
    signer: SignerAtHand
    faults: Faults
    clock: StageClock
    outsider: Outsider
    loop: Loop
    omnibus: Vault
    token: AssetId

    async def tend(self) -> list[WithdrawalId]:
        return await treasury.tend(self.means, self.signer, self.desk.tenant)

    async def rule(self, asset: AssetId, **changes: object) -> None:
        wanted = {"threshold": 1000, "fee_max": 10**18} | changes
        async with self.desk.db.unit_of_work(self.desk.tenant) as uow:
            await service.set_rule(uow, "operator", SweepRule(asset=asset, **wanted))  # type: ignore[arg-type]

    async def target(self, purpose: str, asset: AssetId, low: int, target: int, high: int) -> None:
        levels = Target(purpose=purpose, asset=asset, low=low, target=target, high=high)
        async with self.desk.db.unit_of_work(self.desk.tenant) as uow:
            await service.set_target(uow, "operator", levels)

    async def address(self, name: str) -> DepositAddress:
        return await self.desk.issue_address(await self.desk.open_wallet(name))

    async def vault(self, purpose: str) -> Vault:
        async with self.desk.db.read(self.desk.tenant) as session:
            return (await wallets.list_vaults(session, CHAIN, purpose))[0]

    async def add_vault(self, purpose: str) -> Vault:
        return await deposits.create_vault(
            self.desk.db, self.signer, self.desk.principal, CHAIN, derived_uuid(purpose), purpose
        )

    async def pay(self, to: str, *, wei: int = 0, tokens: int = 0) -> None:
        """A stranger pays, and it is final."""
        await self.outsider.call("evm_setAutomine", True)
        if wei:
            await self.outsider.send_ether(to, wei)
        if tokens:
            await self.outsider.send_tokens(self.token.reference.removeprefix("erc20:"), to, tokens)
        await self.outsider.call("evm_setAutomine", False)
        await self.mine(2)

    async def mine(self, blocks: int = 1) -> None:
        await self.outsider.mine(blocks)
        await catch_up(self.loop)

    async def work(self, *, dies: bool = False) -> list[Failure]:
        """Time passes, and a worker does all that is due; with `dies` one by one, until it is dead."""
        async with self.desk.db.unit_of_work(self.desk.tenant) as uow:
            await make_due(uow)
        failures: list[Failure] = []
        try:
            failures = await execution.advance_due(self.means, self.desk.tenant, at_once=1 if dies else 8)
        except* Crash:
            if not dies:
                raise
        return failures

    async def settle(self) -> None:
        """Work and mine until nothing is under way."""
        for _ in range(6):
            assert await self.work() == []
            await self.mine(2)
            if not await self.moves("approved", "signing", "broadcasting", "confirming"):
                return
        raise AssertionError(await self.moves("approved", "signing", "broadcasting", "confirming"))

    async def moves(self, *states: str) -> list[Withdrawal]:
        async with self.desk.db.read(self.desk.tenant) as session:
            return await withdrawals.list_withdrawals(session, limit=1000, states=states)

    async def approve(self, withdrawal_id: WithdrawalId, *names: str) -> str:
        async with self.desk.db.unit_of_work(self.desk.tenant) as uow:
            made = await withdrawals.get(uow, withdrawal_id)
            for name in names:
                made = await withdrawals.decide(uow, made.id, make_decision(made.intent, name))
        return made.state

    async def booked(self, vault: Vault | DepositAddress, asset: AssetId = ETH) -> int:
        vault_id = vault.id if isinstance(vault, Vault) else vault.vault_id
        async with self.desk.db.read(self.desk.tenant) as session:
            return (await ledger.balance(session, postings.vault_account(vault_id, asset))).posted

    async def noted(self, asset: AssetId, verdict: Verdict) -> list[Holding]:
        async with self.desk.db.read(self.desk.tenant) as session:
            return await service.list_holdings(session, asset, verdict)

    async def sent_by(self, account: str) -> int:
        """How many transactions the chain has of it."""
        return int(await self.outsider.call("eth_getTransactionCount", account, "latest"), 16)

    async def price(self) -> int:
        """What is bid per gas now."""
        return (await self.means.clients[CHAIN].fees()).max_fee_per_gas_wei

    async def demand_books_equal_chain(self) -> None:
        """Every vault and both assets, no break, and books that balance."""
        contract = self.token.reference.removeprefix("erc20:")
        async with self.desk.db.read(self.desk.tenant) as session:
            assert not any((await ledger.trial_balance(session)).values())
            assert await holdings.count_breaks(session, CHAIN) == 0
            found = await wallets.list_vaults(session, CHAIN)
        for vault in found:
            assert await self.booked(vault) == await self.outsider.balance(vault.account), vault.purpose
            tokens = await self.outsider.token_balance(contract, vault.account)
            assert await self.booked(vault, self.token) == tokens, vault.purpose


@asynccontextmanager
async def open_treasury(
    database: Database, tenant: TenantId, node: str, folder: Path
) -> AsyncIterator[TreasuryStage]:
    """An omnibus vault with an ether of the tenant's own; the stranger has tokens."""
    clock, faults = StageClock(), Faults()
    async with Outsider(node) as outsider:
        contract = await outsider.deploy_token()
        await outsider.mint(contract, await outsider.address(), 10**9)
        token = parse_asset_id(f"{CHAIN}/erc20:{parse_address(contract)}")
        policy = make_treasury_policy(parse_address(contract))
        signer = SignerAtHand(folder, policy, faults, clock.unix_time)
        chain = evm_settings(node, confirmations=1)
        settings = Settings(
            environment="development",
            database={"url": "postgresql://nobody@127.0.0.1/none"},  # type: ignore[arg-type]  # pydantic checks
            redis={"url": "redis://127.0.0.1:1/0"},  # type: ignore[arg-type]
            signer={"socket": "/nonexistent/signer.sock"},  # type: ignore[arg-type]
            api={"port": 1},  # type: ignore[arg-type]
            intent_valid_s=3600,
            chains=[chain.model_dump(exclude_defaults=True)],  # type: ignore[arg-type]
        )
        client, source = FaultyEvm(node, faults), build_source(chain, database)
        means = Means(db=database, signer=signer, clients={CHAIN: client}, settings=settings, clock=clock)
        desk = Desk(db=database, tenant=tenant, chain=CHAIN, keys=signer)  # type: ignore[arg-type]  # makes keys
        async with database.unit_of_work(None) as uow:
            await policies.adopt(uow, await signer.get_policy())
        await desk.list_asset(ETH, "ETH", 18)
        await desk.list_asset(token, "TUSD", 6)
        own: WalletId = await desk.open_wallet("acme", "treasury")
        omnibus = await deposits.create_vault(
            database, signer, desk.principal, CHAIN, derived_uuid("omnibus")
        )
        address = await desk.issue_address(own)
        stage = TreasuryStage(
            desk=desk,
            means=means,
            signer=signer,
            faults=faults,
            clock=clock,
            outsider=outsider,
            loop=build_loop(database, source, await take_fence(database, CHAIN), confirmations=1),
            omnibus=omnibus,
            token=token,
        )
        await stage.pay(address.address, wei=10**18)
        yield stage
        await source.aclose()
        await client.aclose()
