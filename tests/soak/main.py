"""The chaos soak: `python -m tests.soak.main [--seconds S] [--seed N]`, or `make soak`.

The whole stack with real processes, customers who withdraw and strangers who pay on both chains and by bank, while processes die
by kill -9, Valkey forgets, nodes are away, late or lie, blocks are replaced, and prices jump. All that is drawn by chance follows
from one seed, which is printed first. In the end all must have come to rest and fit: see `quiet`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from stellar_sdk import Asset, Keypair, Payment

from custody.chains.evm.address import checksum
from devnet.config import EVM_CHAIN, STELLAR_CHAIN
from devnet.processes import StackError
from devnet.stack import Options, Stack
from devnet.stellar.outsider import units_text
from devnet.story.cast import Cast
from devnet.story.client import StoryError
from devnet.story.fiat import OUR_IBAN
from devnet.story.opening import fill_treasury, holds, open_shop, open_wallet, trust_usdc
from devnet.story.outside import Outside
from devnet.story.play import open_stage
from tests.soak.customers import AnotherAnswer, Customers
from tests.soak.disturb import Disturber
from tests.soak.front import Front, stand_before
from tests.soak.lies import EvmLies, Lies, StellarLies
from tests.soak.people import AWAY, Payees, Strangers
from tests.soak.plan import CONFIRMATIONS, count, draw
from tests.soak.quiet import NotQuiet, come_to_rest, examine

CUSTOMERS = ("ann", "bob", "cleo", "dan")
FUNDS = {"XLM": 2000 * 10**7, "ETH": 5 * 10**18, "TUSD": 500 * 10**6}
"""Of each customer, before anything goes wrong."""
TWICE = 0.5
"""Share of the bank's callbacks that come again."""
LOOK_AGAIN_S = 6
"""Longer than the worker takes from one look at its channels to the next."""
SETTINGS: dict[str, dict[str, object]] = {
    STELLAR_CHAIN: {
        "channels": 3,
        "channel_balance_stroops": 100 * 10**7,
        "fee_bump_max_stroops": 10**6,
        "fee_account_balance_stroops": 100 * 10**7,
        "tx_valid_s": 30,
        "tx_valid_ledgers": 20,
    },
    EVM_CHAIN: {"confirmations": CONFIRMATIONS, "evm": {"stuck_after_blocks": 4}},
}


async def soak(stack: Stack, fronts: dict[str, Front], seed: int, seconds: float) -> None:
    """Open the shop in peace, let everything go wrong at once, and look at what is left. Raises StoryError."""
    plan = draw(seed, seconds)
    _say(f"{len(plan)} faults: {count(plan)}")
    async with open_stage(stack.endpoints, stack.places.state) as (cast, outside):
        await _open(cast, outside)
        stop = asyncio.Event()
        chance = random.Random(seed + 1)
        people = {"cast": cast, "stop": stop}
        customers = Customers(
            payees=_payees(outside),
            names=list(CUSTOMERS),
            chance=chance,
            **people,  # type: ignore[arg-type]
        )
        strangers = Strangers(
            outside=outside,
            customers=list(CUSTOMERS),
            chance=random.Random(seed + 2),
            **people,  # type: ignore[arg-type]
        )
        disturber = Disturber(stack, fronts, strangers, _say)
        references = await _references(cast)
        _say("everything begins")
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(customers.withdraw(1.2))
            group.create_task(customers.withdraw_much(12.0))
            group.create_task(customers.pay_out(3.0))
            group.create_task(strangers.pay_stellar(6))
            group.create_task(strangers.pay_evm(4))
            group.create_task(strangers.pay_by_bank(references, 3.0))
            await disturber.run(plan)
            stop.set()
            # While people still wait for their last answers: what is down would let them wait in vain.
            await disturber.end()
        _say(f"asked: {dict(customers.asked)}; paid in: {dict(strangers.paid)}")
        _say(f"done: {dict(disturber.done)}")
        _say(f"told: { {name: dict(front.told) for name, front in fronts.items()} }")
        await _look(stack, cast, strangers, 120 + seconds / 4)


async def _look(stack: Stack, cast: Cast, strangers: Strangers, patience_s: float) -> None:
    """At the quiet point, and again where something moved meanwhile: a refill, or what a stranger had still on the way."""
    for last in (False, False, True):
        await come_to_rest(stack, strangers, patience_s, _say)
        try:
            _say((await examine(stack, cast)).show())
        except NotQuiet as error:
            if last:
                raise
            _say(f"looking again: {error}")
            await asyncio.sleep(LOOK_AGAIN_S)
        else:
            return


async def _open(cast: Cast, outside: Outside) -> None:
    """Customers with money, channels, a bank account; nothing goes wrong yet."""
    await open_shop(cast, outside)
    for name in CUSTOMERS:
        if name not in cast.names:
            await open_wallet(cast, name, "customer")
    await fill_treasury(cast, outside)
    await asyncio.gather(trust_usdc(cast), _fund_evm(cast, outside), _fund_stellar(cast, outside))
    await outside.open_bank_account(OUR_IBAN)
    body = {"rail": "sandbox", "iban": OUR_IBAN, "asset": cast.names["EUR"], "name": "Main EUR account"}
    cast.names["bank"] = (await cast.operator.post("/v1/bank-accounts", body))["id"]
    for name in CUSTOMERS:
        for code, amount in FUNDS.items():
            await holds(cast, name, code, amount)


async def _fund_evm(cast: Cast, outside: Outside) -> None:
    """The house's address pays for all, so it is rich; strangers need tokens. One after the other: they share a nonce."""
    house, stranger = cast.names[f"treasury {EVM_CHAIN}"], await outside.evm.address()
    own = [cast.names[f"{name} {EVM_CHAIN}"] for name in CUSTOMERS]
    sends = [{"to": house, "value": hex(100 * 10**18)}]
    sends += [{"to": each, "value": hex(FUNDS["ETH"])} for each in own]
    mints = {house: 5000 * 10**6, stranger: 10**12, **dict.fromkeys(own, FUNDS["TUSD"])}
    sends += [
        {"to": outside.token, "data": f"0x40c10f19{int(each, 16):064x}{amount:064x}"}
        for each, amount in mints.items()
    ]
    for each in sends:
        await outside.evm.call("eth_sendTransaction", {"from": stranger, **each})


async def _fund_stellar(cast: Cast, outside: Outside) -> None:
    operations = [
        Payment(cast.names[f"{name} {STELLAR_CHAIN}"], Asset.native(), units_text(FUNDS["XLM"]))
        for name in CUSTOMERS
    ]
    await asyncio.to_thread(outside.stellar.send, outside.payer, operations)


async def _references(cast: Cast) -> dict[str, str]:
    """What a bank transfer must say to reach each customer."""
    return {
        name: str((await cast.app.post(f"/v1/wallets/{cast.names[name]}/payment-reference"))["reference"])
        for name in CUSTOMERS
    }


def _payees(outside: Outside) -> Payees:
    evm = tuple(checksum("0x" + secrets.token_hex(20)) for _ in range(3))
    stellar = (outside.payer, *_more_accounts(outside))
    return Payees(stellar=stellar, evm=evm)


def _more_accounts(outside: Outside) -> tuple[Keypair, ...]:
    return tuple(outside.stellar.new_account() for _ in range(2))


@contextlib.asynccontextmanager
async def _fronts(seed: int) -> AsyncIterator[dict[str, Front]]:
    """What stands before nodes and callbacks."""
    lies: dict[str, Lies | None] = {STELLAR_CHAIN: StellarLies(), EVM_CHAIN: EvmLies(), "bank": None}
    async with contextlib.AsyncExitStack() as stack:
        fronts = {
            name: await stack.enter_async_context(stand_before(Front(random.Random(seed + number), each)))
            for number, (name, each) in enumerate(lies.items(), start=3)
        }
        fronts["bank"].twice = TWICE
        yield fronts


async def _run(state: Path, seed: int, seconds: float) -> int:
    async with _fronts(seed) as fronts:

        def front(name: str, url: str) -> str:
            fronts[name].behind = url
            return fronts[name].url

        options = Options(automatic=True, chains=SETTINGS, front=front)
        stack = Stack(state, options, lambda _: None)
        try:
            await asyncio.to_thread(stack.up)
            await soak(stack, fronts, seed, seconds)
        except (StackError, StoryError, AnotherAnswer, *AWAY, ExceptionGroup) as error:
            print(f"seed {seed} failed: {_told(error)}", file=sys.stderr)
            for log in sorted(stack.places.logs.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
            return 1
        finally:
            await asyncio.to_thread(stack.stop)
    return 0


def _told(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_told(each) for each in error.exceptions)
    return f"{type(error).__name__}: {error}"


def _say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


def main() -> int:
    """0 when everything fits in the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long things go wrong")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--state-dir", type=Path, help="keep the stack's files and logs there")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="custody-soak-") as folder:
        # The stack's processes run as other users; they must be able to reach the folder.
        Path(folder).chmod(0o755)
        state = chosen.state_dir or Path(folder) / "state"
        code = asyncio.run(_run(state, chosen.seed, chosen.seconds))
    print(f"{'a promise was broken' if code else 'every promise was kept'}; {time.monotonic() - began:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
