"""How long an idle system takes: from a closed ledger to a credited balance over GraphQL, from a request to a settled withdrawal.

The local stack as the demo has it, with real processes and a Postgres that waits for its disk; a ledger and a block each second,
credits after one confirmation on EVM, none on Stellar; nobody is asked to approve. Everything is seen from outside, by asking
again and again: what the asking takes is in the figures. A part of the bench of withdrawals; alone:
`python -m bench.latency [--samples N]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from devnet.config import EVM_CHAIN, STELLAR_CHAIN
from devnet.stack import Options, Stack
from devnet.story.cast import Cast
from devnet.story.client import Json
from devnet.story.opening import fill_treasury, open_shop, posted_balances
from devnet.story.outside import Outside, StellarPayment
from devnet.story.play import open_stage

SAMPLES = 40
LOOK_S = 0.02
"""How often a balance or a withdrawal is asked for."""
TIP_S = 0.01
"""How often the chains are asked for their newest block."""
GIVEN_UP_S = 60.0
"""Longest that anything is waited for."""
SPREAD_S = 1.0
"""Requests begin anywhere within a ledger."""
SEED = 7
CHAINS = {STELLAR_CHAIN: "XLM", EVM_CHAIN: "ETH"}
ANNS = {"XLM": 5000 * 10**7, "ETH": 10**19}
PAID = {"XLM": 10**6, "ETH": 10**14}
OPTIONS = Options(automatic=True, chains={EVM_CHAIN: {"confirmations": 1}})
"""Of the stack. One confirmation: a block is final when the next one follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Seconds, in the order in which they were taken, per chain."""

    credit_visible: dict[str, list[float]] = field(default_factory=dict)
    """From the close of the ledger, or of the block that made the credit final, to the balance in an answer."""
    requested_to_settled: dict[str, list[float]] = field(default_factory=dict)
    """From before the request to the answer that says settled."""


class Tips:
    """When each block of a chain was first seen by somebody who looks all the time."""

    def __init__(self, url: str, chain: str) -> None:
        self._url = url
        self._stellar = chain == STELLAR_CHAIN
        self._seen: dict[int, float] = {}

    def closed(self, height: int) -> float:
        """The moment by this process's clock."""
        return min(at for found, at in self._seen.items() if found >= height)

    async def watch(self) -> None:
        """Look until cancelled."""
        method = "getHealth" if self._stellar else "eth_blockNumber"
        async with httpx.AsyncClient(trust_env=False) as http:
            while True:
                asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": None if self._stellar else []}
                result = (await http.post(self._url, json=asked)).json()["result"]
                height = result["latestLedger"] if self._stellar else int(result, 16)
                self._seen.setdefault(height, time.monotonic())
                await asyncio.sleep(TIP_S)


def measure(samples: int = SAMPLES, say: Callable[[str], None] = print) -> Latencies:
    """Bring the stack up, measure, end it."""
    with tempfile.TemporaryDirectory(prefix="custody-latency-") as folder:
        # The stack's processes run as other users; they must be able to reach the folder.
        Path(folder).chmod(0o755)
        with Stack(Path(folder) / "state", replace(OPTIONS, durable=True), say) as stack:
            stack.up()
            return asyncio.run(measure_on(stack, samples))


async def measure_on(stack: Stack, samples: int) -> Latencies:
    """Measure on a stack that is up, with these options, and that nobody else uses."""
    ends, chance, found = stack.endpoints, random.Random(SEED), Latencies()
    async with open_stage(ends, stack.places.state) as (cast, outside):
        await open_shop(cast, outside)
        await fill_treasury(cast, outside)
        for code, amount in ANNS.items():
            await _pay(cast, outside, code, amount)
            await _credited(cast, cast.names[code], 0)
        for chain, code in CHAINS.items():
            url = ends.stellar_rpc_url if chain == STELLAR_CHAIN else ends.evm_rpc_url
            async with _watching(Tips(url, chain)) as tips:
                found.credit_visible[chain] = [
                    await _credit(cast, outside, code, tips, chance) for _ in range(samples)
                ]
        for chain, code in CHAINS.items():
            payee = outside.stellar_payee if chain == STELLAR_CHAIN else outside.evm_payee
            found.requested_to_settled[chain] = [
                await _withdraw(cast, code, payee, chance) for _ in range(samples)
            ]
    return found


async def _credit(cast: Cast, outside: Outside, code: str, tips: Tips, chance: random.Random) -> float:
    """One deposit: from the block that makes it final to the balance that shows it."""
    asset = cast.names[code]
    before = (await posted_balances(cast, "ann")).get(asset, 0)
    await asyncio.sleep(chance.uniform(0, SPREAD_S))
    seen = asyncio.create_task(_credited(cast, asset, before))
    height = await _pay(cast, outside, code, PAID[code])
    return await seen - tips.closed(height)


async def _pay(cast: Cast, outside: Outside, code: str, amount: int) -> int:
    """A stranger pays Ann. Returns the height that makes it final."""
    if code == "XLM":
        payment = StellarPayment(destination=cast.names[f"ann {STELLAR_CHAIN}"], code=code, amount=amount)
        return (await outside.pay_stellar([payment]))[0]
    return await outside.send_ether(cast.names[f"ann {EVM_CHAIN}"], amount) + 1


async def _credited(cast: Cast, asset: str, before: int) -> float:
    """When the balance was more than before."""
    async with asyncio.timeout(GIVEN_UP_S):
        while (await posted_balances(cast, "ann")).get(asset, 0) <= before:  # noqa: ASYNC110 (another process works)
            await asyncio.sleep(LOOK_S)
    return time.monotonic()


async def _withdraw(cast: Cast, code: str, payee: str, chance: random.Random) -> float:
    body: Json = {
        "wallet_id": cast.names["ann"],
        "asset": cast.names[code],
        "amount": str(PAID[code]),
        "destination": payee,
    }
    await asyncio.sleep(chance.uniform(0, SPREAD_S))
    asked = time.monotonic()
    made = await cast.app.post("/v1/withdrawals", body)
    async with asyncio.timeout(GIVEN_UP_S):
        # Polled, as somebody without webhooks would.
        while (await cast.app.get(f"/v1/withdrawals/{made['id']}"))["state"] != "settled":  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
    return time.monotonic() - asked


@asynccontextmanager
async def _watching(tips: Tips) -> AsyncIterator[Tips]:
    looking: asyncio.Task[None] = asyncio.create_task(tips.watch())
    try:
        yield tips
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


def quantile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed; the greatest where there are few."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    found = measure(parser.parse_args().samples)
    for name in ("credit_visible", "requested_to_settled"):
        for chain, values in getattr(found, name).items():
            shares = {f"p{share:.0%}": round(quantile(values, share), 3) for share in (0.5, 0.9, 0.99)}
            print(f"{name:22} {chain:16} {json.dumps(shares)}")


if __name__ == "__main__":
    main()
