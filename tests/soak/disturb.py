"""Carry the plan out: kill, flush, cut, delay, lie, reorganise, overprice; and start again what ended, as orchestrators do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from devnet.config import EVM_CHAIN, STELLAR_CHAIN
from devnet.evm import OutsiderError
from devnet.stack import Stack
from tests.soak.front import Front
from tests.soak.people import Strangers
from tests.soak.plan import Fault

GWEI = 10**9
AGAIN_S = 1.0
"""How long a process stays down that has ended by itself."""
LOOK_S = 0.2
CHAINS = {"stellar": STELLAR_CHAIN, "evm": EVM_CHAIN}


class Disturber:
    """Everything that goes wrong in one soak."""

    def __init__(
        self, stack: Stack, fronts: Mapping[str, Front], strangers: Strangers, say: Callable[[str], None]
    ) -> None:
        """`fronts` by chain."""
        self._stack, self._fronts, self._strangers, self._say = stack, fronts, strangers, say
        self._down_until: dict[str, float] = {}
        self.done: Counter[str] = Counter()

    async def run(self, plan: list[Fault]) -> None:
        """Every fault at its time; returns when the last is over."""
        began = time.monotonic()
        keeping = asyncio.create_task(self._keep_up())
        try:
            async with asyncio.TaskGroup() as group:
                for fault in plan:
                    await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
                    self._say(str(fault))
                    group.create_task(self._happen(fault))
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def end(self) -> None:
        """Nothing is wrong any more: every process serves, every node is honest, prices are what they were."""
        for front in self._fronts.values():
            front.clear()
        await self._surge(0)
        await self._price(1)
        for line in await asyncio.to_thread(self._stack.status):
            await asyncio.to_thread(self._stack.revive, line.name)
        for line in await asyncio.to_thread(self._stack.status):
            await asyncio.to_thread(self._stack.start, line.name)

    async def _happen(self, fault: Fault) -> None:
        self.done[f"{fault.name} {fault.where}"] += 1
        match fault.name:
            case "kill":
                self._down_until[fault.where] = time.monotonic() + fault.lasts_s
                await asyncio.to_thread(self._stack.kill, fault.where)
            case "flush":
                await self._flush()
            case "outage" | "delay" | "lies":
                await self._through_front(fault)
            case "reorg":
                await self._strangers.reorganise(int(fault.size))
            case "spike":
                await self._price(int(fault.size))
            case "surge":
                await self._surge(int(fault.size))
                await asyncio.sleep(fault.lasts_s)
                await self._surge(0)
            case name:
                raise ValueError(f"nobody knows how to bring about {name}")

    async def _through_front(self, fault: Fault) -> None:
        """For a while. Where two of a kind overlap, the first that ends ends both."""
        front = self._fronts[CHAINS[fault.where]]
        name, value = {
            "outage": ("away", True),
            "delay": ("delay_s", fault.size),
            "lies": ("share", fault.size),
        }[fault.name]
        setattr(front, name, value)
        await asyncio.sleep(fault.lasts_s)
        setattr(front, name, type(value)())

    async def _flush(self) -> None:
        # Gone already, where Valkey itself is down.
        with contextlib.suppress(RedisError, OSError):
            async with Redis.from_url(self._stack.endpoints.redis_url) as redis:
                await redis.flushall()

    async def _price(self, gwei: int) -> None:
        """Of the next block's gas; it falls by an eighth with each block that is not full."""
        with contextlib.suppress(OutsiderError, httpx.HTTPError):
            await self._strangers.evm.call("anvil_setNextBlockBaseFeePerGas", hex(gwei * GWEI))

    async def _surge(self, stroops: int) -> None:
        # A network that is down has no queue.
        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
                url = f"{self._stack.endpoints.stellar_rpc_url}/devnet/misbehave"
                await http.post(url, json={"surge_fee": stroops})

    async def _keep_up(self) -> None:
        """Start again what is down: after a kill when its time is over, otherwise after a moment."""
        while True:
            for name in self._stack.ended():
                if name not in self._down_until:
                    self.done[f"ended by itself {name}"] += 1
                    self._say(f"       {name} has ended by itself")
                    self._down_until[name] = time.monotonic() + AGAIN_S
                elif time.monotonic() >= self._down_until[name]:
                    del self._down_until[name]
                    await asyncio.to_thread(self._stack.revive, name)
            await asyncio.sleep(LOOK_S)
