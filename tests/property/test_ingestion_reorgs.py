"""Random deposits, seen and unseen, reorganisations of any depth, deaths and restarts on a real anvil: at every quiet point
books, holdings and chain are equal, and nothing that differs stays untold.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from sqlalchemy import event

from custody.chains.evm.address import checksum
from custody.chains.evm.rpc import EvmRpc
from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.deposits.service import NO_CAUTION
from custody.holdings import halts
from custody.holdings import service as holdings
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.ids import TenantId, WalletId
from custody.ledger import service as ledger
from custody.settings import ChainSettings
from custody.wallets import service as wallets
from custody.wallets.model import DepositAddress
from devnet.anvil import CHAIN_ID
from devnet.evm import Mined, Outsider, OutsiderError
from ingestion.evm.sources import RpcBlocks
from ingestion.evm.worker import build_source
from ingestion.survey.run import Surveyor
from tests.fakes.contracts import deploy, invoke
from tests.fakes.faults import Crash
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.anvil_node import run_anvil
from tests.integration.ingestion_harness import Desk, build_loop, catch_up, decide_halt, take_fence

CHAIN = ChainId(f"eip155:{CHAIN_ID}")
ETH = parse_asset_id(f"{CHAIN}/native")
CONFIRMATIONS = 3
STEPS = 48

pytestmark = pytest.mark.stack


def settings_for(url: str) -> ChainSettings:
    return ChainSettings(
        id=CHAIN,
        kind="evm",
        rpc_url=url,
        chain_id=CHAIN_ID,
        confirmations=CONFIRMATIONS,
        gas_limit_native=21_000,
        gas_limit_erc20=100_000,
        max_fee_per_gas_wei=10**12,
        max_priority_fee_per_gas_wei=10**11,
        tx_valid_s=600,
    )


class World:
    """The chain, the platform, and a worker that may die at any statement."""

    def __init__(self, desk: Desk, source: RpcBlocks, outsider: Outsider, chance: random.Random) -> None:
        self.desk, self.source, self.outsider, self.chance = desk, source, outsider, chance
        self.addresses: dict[WalletId, DepositAddress] = {}
        self.sent: list[str] = []
        self.statements_left = 0
        self.deaths = 0
        self.decisions = 0
        self.payer = self.token = ""
        self.usd = ETH
        self.base = 1
        event.listen(desk.db.engine.sync_engine, "before_cursor_execute", self._count)

    def close(self) -> None:
        event.remove(self.desk.db.engine.sync_engine, "before_cursor_execute", self._count)

    async def open(self) -> None:
        """Two customers, a token, and a contract that pays one of them out of its own storage. None of it is reorganised away."""
        for name in ("ada", "bob"):
            wallet = await self.desk.open_wallet(name)
            self.addresses[wallet] = await self.desk.issue_address(wallet)
        self.payer = await deploy(self.outsider, "Payer", value=10**18)
        heir = next(iter(self.addresses.values())).address
        await invoke(self.outsider, self.payer, "name(address)", heir)
        self.token = checksum(await self.outsider.deploy_token())
        self.usd = parse_asset_id(f"{CHAIN}/erc20:{self.token}")
        await self.desk.list_asset(self.usd, "TUSD", 6)
        self.base = await self.height()

    async def act(self) -> None:
        """One thing happens."""
        chance = self.chance
        match chance.choice(
            ("pay", "pay", "unseen", "mint", "mine", "reorg", "revert", "resend", "work", "die", "die")
        ):
            case "unseen":
                await self._keep(
                    await invoke(self.outsider, self.payer, "pay(uint256)", chance.randrange(1, 10**6))
                )
            case "mint":
                to = chance.choice(list(self.addresses.values()))
                await self._keep(await self.outsider.mint(self.token, to.address, chance.randrange(1, 10**6)))
            case "pay":
                await self._pay()
            case "mine":
                await self.outsider.mine(chance.randrange(1, 4))
            case "reorg":
                depth = min(chance.randrange(1, 7), await self.height() - self.base)
                if depth > 0:
                    await self.outsider.call("anvil_reorg", depth, [])
            case "revert":
                snapshot = await self.outsider.call("evm_snapshot")
                for _ in range(chance.randrange(1, 4)):
                    await self._pay()
                await self.work()
                await self.outsider.call("evm_revert", snapshot)
            case "work":
                await self.work()
            case "resend":
                await self._resend()
            case "die":
                await self._pay()
                await self.outsider.mine(chance.randrange(1, CONFIRMATIONS + 2))
                self.statements_left = chance.randrange(1, 80)
                try:
                    await self.work()
                except Crash:
                    self.deaths += 1
                self.statements_left = 0

    async def work(self) -> None:
        """A worker starts, takes the chain over, and follows it to its tip; then it surveys. Where it halts, a person follows."""
        fence = await take_fence(self.desk.db, CHAIN)
        loop = build_loop(self.desk.db, self.source, fence, confirmations=CONFIRMATIONS)
        await catch_up(loop)
        while loop.status.halted:
            await decide_halt(self.desk.db, CHAIN, follow=True)
            self.decisions += 1
            await catch_up(loop)
        surveyor = Surveyor(self.desk.db, self.source, fence, questions=2, caution=NO_CAUTION)
        while not (surveyed := await surveyor.step()).is_last and surveyed.height >= 0:
            pass

    async def _pay(self) -> None:
        to = self.chance.choice(list(self.addresses.values()))
        await self._keep(await self.outsider.send_ether(to.address, self.chance.randrange(1, 10**18)))

    async def _keep(self, mined: Mined) -> None:
        self.sent.append(await self.outsider.call("eth_getRawTransactionByHash", mined.tx_hash))

    async def _resend(self) -> None:
        """Offer everything again that a reorganisation may have dropped; what is on chain is refused."""
        for raw in self.sent:
            with contextlib.suppress(OutsiderError):
                await self.outsider.call("eth_sendRawTransaction", raw)
        await self.outsider.mine()

    async def height(self) -> int:
        return int(await self.outsider.call("eth_blockNumber"), 16)

    def _count(self, *_: Any) -> None:
        self.statements_left -= 1
        if self.statements_left == 0:
            raise Crash("statement")


@pytest.mark.parametrize("seed", [3, 6, 9])
async def test_books_equal_the_chain_at_every_quiet_point(
    database: Database, tenant: TenantId, seed: int
) -> None:
    print(f"seed {seed}")
    desk = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await desk.list_asset(ETH, "ETH", 18)
    async with run_anvil() as url, Outsider(url) as outsider:
        source = build_source(settings_for(url), database)
        client = EvmRpc(CHAIN, JsonRpc(url), CHAIN_ID)
        world = World(desk, source, outsider, random.Random(seed))
        await world.open()
        try:
            for _ in range(4):
                for _ in range(STEPS // 4):
                    await world.act()
                await outsider.mine(CONFIRMATIONS + 7)
                await world.work()
                await compare(world, client)
        finally:
            world.close()
            print(f"{world.deaths} deaths, {world.decisions} decisions")
            await source.aclose()
            await client.aclose()


async def compare(world: World, client: EvmRpc) -> None:
    """Every wallet is owed what its vault holds on chain at the final height, and the books balance."""
    desk = world.desk
    final = await desk.final_height()
    assert final >= await world.height() - CONFIRMATIONS
    for wallet, address in world.addresses.items():
        async with desk.db.read(desk.tenant) as session:
            vault = await wallets.get_vault(session, address.vault_id)
        async with desk.db.read(desk.tenant) as session:
            kept = {
                each.state.asset: each
                for each in await holdings.list_holdings(session, [vault.id], height=final)
            }
        for asset in (ETH, world.usd):
            seen = await client.balance(address.account, asset, final)
            assert await desk.owed(wallet, asset) == seen.amount
            assert await desk.held(vault, asset) == seen.amount
            if seen.amount:
                assert (kept[asset].state.amount, kept[asset].opening) == (seen.amount, 0)
    async with desk.db.read(desk.tenant) as session:
        assert await holdings.count_breaks(session, CHAIN) == 0
        assert await halts.find_open(session, CHAIN) is None
        assert set((await ledger.trial_balance(session)).values()) <= {0}
    states = {each.state for each in await desk.deposits()}
    assert states <= {"credited", "orphaned", "reversed"}
