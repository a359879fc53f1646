"""A walk: random payments, reorganisations, deaths, overtakings and lies on a real anvil, the same for the same seed.

At every quiet point the node is honest, the worker stands at the tip, and `compare` holds the ledger against the chain, and its
history against what must have happened. What a kill by signal hits is the machine's to say; all else follows from the seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import event

from custody.db.session import Database
from custody.holdings import halts
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.kernel.errors import Unavailable
from custody.kernel.ids import TenantId, WalletId
from custody.wallets.model import DepositAddress
from devnet.evm import Outsider, OutsiderError
from ingestion import cursor
from ingestion.errors import CursorMoved, FenceLost
from ingestion.evm.worker import build_source
from tests.fakes.contracts import call_data, deploy
from tests.fakes.faults import Crash
from tests.fakes.key_maker import FakeKeyMaker
from tests.fakes.lying_proxy import LyingProxy, run_proxy
from tests.integration.anvil_node import run_anvil
from tests.integration.evm_stage import CHAIN, ETH, evm_settings
from tests.integration.ingestion_harness import Desk, build_loop, decide_halt, take_fence
from tests.property.evm_compare import CONFIRMATIONS, compare

ROOT = Path(__file__).parent.parent.parent
DEPTH_MAX = 6
"""Deeper than what is final: credits have to be mirrored."""
LIES = 0.25
"""To which share of its questions a worker is lied to while a provider lies."""
TRIES = 12
"""How often a worker asks a provider that lies, before it is somebody's turn to be honest."""
ACTIONS = (
    *("pay", "pay", "pay", "block", "block", "mine", "reorg", "reorg", "revert", "resend"),
    *("work", "part", "deep", "deep", "lie", "lie", "die", "die", "overtake"),
)
FIRST_ACTIONS = ("deep", "resend", "lie", "die", "overtake")
"""What every walk begins with, so that none is without."""


@dataclass
class World:
    """The chain, the platform and whoever works for it."""

    desk: Desk
    outsider: Outsider
    proxy: LyingProxy
    chance: random.Random
    way: str
    """How value inside calls is seen."""
    payer: str
    token: str
    addresses: dict[WalletId, DepositAddress] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    """Every transaction, as it was signed."""
    done: Counter[str] = field(default_factory=Counter)
    kept: dict[str, set[str]] = field(default_factory=dict)
    statements_left: int = 0
    actions: tuple[str, ...] = ACTIONS

    @property
    def usd(self) -> AssetId:
        return parse_asset_id(f"{CHAIN}/erc20:{self.token}")

    async def act(self, action: str = "") -> None:
        """One thing happens: any, or the one that is named."""
        action = action or self.chance.choice(self.actions)
        self.done[action] += 1
        await getattr(self, f"_{action}")()

    async def _pay(self) -> None:
        await self._send(self._payment())

    async def _block(self) -> None:
        """Several payments in one block."""
        await self.outsider.call("evm_setAutomine", False)
        for _ in range(self.chance.randrange(2, 5)):
            await self._send(self._payment())
        await self.outsider.mine()
        await self.outsider.call("evm_setAutomine", True)

    async def _mine(self) -> None:
        await self.outsider.mine(self.chance.randrange(1, 4))

    async def _reorg(self) -> None:
        await self.outsider.call("anvil_reorg", self.chance.randrange(1, DEPTH_MAX + 1), [])

    async def _deep(self) -> None:
        """Payments that are credited, and then their blocks are replaced."""
        await self._block()
        await self.outsider.mine(CONFIRMATIONS)
        await self.work()
        await self.outsider.call("anvil_reorg", self.chance.randrange(CONFIRMATIONS + 1, DEPTH_MAX + 1), [])

    async def _revert(self) -> None:
        """What a worker has seen is gone, and the chain is shorter."""
        snapshot = await self.outsider.call("evm_snapshot")
        for _ in range(self.chance.randrange(1, 4)):
            await self._pay()
        await self.work()
        await self.outsider.call("evm_revert", snapshot)

    async def _resend(self) -> None:
        """Offer everything again that a reorganisation may have dropped; what is on chain is refused."""
        for raw in self.sent:
            with contextlib.suppress(OutsiderError):
                await self.outsider.call("eth_sendRawTransaction", raw)
        await self.outsider.mine()

    async def _work(self) -> None:
        await self.work()

    async def _part(self) -> None:
        """A worker that is told to stop before it is at the tip."""
        await self.work(steps=1)

    async def _lie(self) -> None:
        """A provider that lies while there is something to lie about."""
        for _ in range(2):
            await self._block()
        self.proxy.share = LIES if self.proxy.only is None else 1.0
        await self.work()
        self.proxy.share = 0.0

    async def _die(self) -> None:
        """A worker dies before some statement."""
        await self._pay()
        await self.outsider.mine(self.chance.randrange(1, CONFIRMATIONS + 2))
        self.statements_left = self.chance.randrange(1, 80)
        try:
            await self.work()
        except Crash:
            self.done["died"] += 1
        self.statements_left = 0

    async def _overtake(self) -> None:
        """A worker goes on although another has taken the chain over: it must not write."""
        await self.work()
        async with self._loop() as loop:
            while await loop.step():
                pass
            await self._pay()
            await take_fence(self.desk.db, CHAIN)
            before = await self._stands()
            try:
                while await loop.step():
                    pass
            except (FenceLost, CursorMoved):
                self.done["overtaken"] += 1
            assert await self._stands() == before, "a worker without the fence has written"

    async def kill(self, config: Path) -> None:
        """A worker's process is killed by a signal while it works."""
        self.done["kill"] += 1
        for _ in range(3):
            await self._block()
        await self.outsider.mine(CONFIRMATIONS)
        before = await self._stands()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ingestion.main", "--chain", CHAIN),
            cwd=ROOT,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "CUSTODY_CONFIG": str(config)},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(30):
                while await self._stands() == before and process.returncode is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)  # another process works: the database has to be asked
            await asyncio.sleep(self.chance.random() / 20)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            assert await process.wait() == -signal.SIGKILL

    async def work(self, steps: int = 10_000) -> None:
        """A worker works; where it halts, a person looks and has it follow."""
        await self._follow(steps)
        while await self.is_halted():
            await decide_halt(self.desk.db, CHAIN, follow=True)
            self.done["followed"] += 1
            await self._follow(steps)

    async def _follow(self, steps: int) -> None:
        """A worker starts, takes the chain over, and follows it to its tip; a provider that lies it asks again for a while."""
        tries = 0
        async with self._loop() as loop:
            while steps > 0:
                steps -= 1
                try:
                    if not await loop.step() and not self.proxy.share:
                        return
                except (Unavailable, OSError) as error:
                    if not self.proxy.share:
                        raise
                    self.done[getattr(error, "code", "away")] += 1
                if self.proxy.share and (tries := tries + 1) > TRIES:
                    return

    @contextlib.asynccontextmanager
    async def _loop(self) -> AsyncIterator[Any]:
        settings = evm_settings(self.proxy.url, confirmations=CONFIRMATIONS, inner_value=self.way)
        source = build_source(settings, self.desk.db)
        try:
            yield build_loop(
                self.desk.db, source, await take_fence(self.desk.db, CHAIN), confirmations=CONFIRMATIONS
            )
        finally:
            await source.aclose()

    async def _stands(self) -> tuple[Any, int]:
        async with self.desk.db.read(None) as session:
            return await cursor.load(session, CHAIN), await self.desk.final_height()

    def _payment(self) -> dict[str, str]:
        """Ether directly, ether by a contract's calls, or tokens."""
        receivers = [each.address for each in self.addresses.values()]
        to, amount = self.chance.choice(receivers), self.chance.randrange(1, 10**18)
        match self.chance.choice(("ether", "call", "token", "token")):
            case "ether":
                return {"to": to, "value": hex(amount)}
            case "call":
                parts = [self.chance.choice(receivers) for _ in range(self.chance.randrange(1, 4))]
                return {
                    "to": self.payer,
                    "value": hex(len(parts) * amount),
                    "data": call_data("split(address[])", parts),
                }
            case _:
                return {"to": self.token, "data": call_data("mint(address,uint256)", to, amount)}

    async def _send(self, payment: dict[str, str]) -> None:
        asked = {"from": await self.outsider.address(), "gas": hex(300_000), **payment}
        tx_hash = await self.outsider.call("eth_sendTransaction", asked)
        self.sent.append(await self.outsider.call("eth_getRawTransactionByHash", tx_hash))

    async def is_halted(self) -> bool:
        """Whether the chain was replaced below what was final, so that a person has to look."""
        async with self.desk.db.read(None) as session:
            return await halts.find_open(session, CHAIN) is not None

    async def height(self) -> int:
        return int(await self.outsider.call("eth_blockNumber"), 16)

    def count(self, *_: Any) -> None:
        """A statement is about to be sent."""
        self.statements_left -= 1
        if self.statements_left == 0:
            raise Crash("statement")


@contextlib.asynccontextmanager
async def build_world(database: Database, tenant: TenantId, seed: int) -> AsyncIterator[World]:
    """A chain with a payer and a token, a tenant with two customers, and a provider before the chain."""
    chance = random.Random(seed)
    desk = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await desk.list_asset(ETH, "ETH", 18)
    async with (
        run_anvil() as url,
        Outsider(url) as outsider,
        run_proxy(url, random.Random(seed + 1)) as proxy,
    ):
        payer, token = await deploy(outsider, "Payer"), await deploy(outsider, "Token")
        # No reorganisation in a row reaches these.
        await outsider.mine(4 * DEPTH_MAX)
        world = World(
            desk=desk,
            outsider=outsider,
            proxy=proxy,
            chance=chance,
            way=chance.choice(("balances", "debug")),
            payer=payer,
            token=token,
        )
        await desk.list_asset(world.usd, "TOK", 6)
        for name in ("ada", "bob"):
            wallet = await desk.open_wallet(name)
            world.addresses[wallet] = await desk.issue_address(wallet)
        event.listen(database.engine.sync_engine, "before_cursor_execute", world.count)
        try:
            yield world
        finally:
            event.remove(database.engine.sync_engine, "before_cursor_execute", world.count)


async def walk(world: World, steps: int, *, quiet_every: int = 8) -> None:
    """What every walk begins with, then so many steps; a quiet point after every few."""
    actions = [*FIRST_ACTIONS, *([""] * steps)]
    for number, action in enumerate(actions, 1):
        await world.act(action)
        if number % quiet_every == 0 or number == len(actions):
            await settle_and_compare(world)


async def settle_and_compare(world: World) -> None:
    """A quiet point."""
    await world.outsider.mine(CONFIRMATIONS + DEPTH_MAX + 1)
    await world.work()
    await compare(world)
