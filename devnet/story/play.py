"""The whole story, act by act: what `make demo` plays, what the end-to-end test checks, and what the crash test disturbs."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from devnet.config import Endpoints
from devnet.story.cast import Cast, custody, gather_cast
from devnet.story.client import Json, StoryError, until
from devnet.story.fiat import pay_in_and_out
from devnet.story.money import ETH, TUSD, USDC, XLM, deposit, move, withdraw
from devnet.story.opening import fill_treasury, open_shop, posted_balances, trust_usdc
from devnet.story.outside import Outside, open_outside
from devnet.story.treasury import wait_for_sweeps

Act = Callable[[Cast, Outside], Awaitable[None]]


async def _move(cast: Cast, _: Outside) -> None:
    await move(cast)


async def _trust(cast: Cast, _: Outside) -> None:
    await trust_usdc(cast)


async def _sweep(cast: Cast, _: Outside) -> None:
    await wait_for_sweeps(cast)


ACTS: tuple[tuple[str, Act], ...] = (
    ("tenant, keys, customers, wallets and addresses; keys are born in the HSM", open_shop),
    ("the treasury fills its vaults on both chains", fill_treasury),
    ("the omnibus account trusts USDC, approved by two of three", _trust),
    ("strangers deposit XLM, USDC, ETH and an ERC-20 token", deposit),
    ("Ann pays Bob inside the books", _move),
    ("withdrawals: two are paid, one is vetoed, one expires", withdraw),
    ("euros arrive, one payout is paid, one comes back", pay_in_and_out),
    ("deposit addresses were swept meanwhile, one with gas that was sent there", _sweep),
)
"""What people of the demo do, in order. Each act can be played again after any crash of the product."""


FINAL = {
    "ann": {"XLM": 440 * XLM, "USDC": 125 * USDC, "ETH": 3 * ETH // 2, "TUSD": 1000 * TUSD, "EUR": 17950},
    "bob": {"XLM": 60 * XLM, "USDC": 25 * USDC, "TUSD": 50 * TUSD},
}
"""What the customers own at the end, in atomic units, whatever happened to any process on the way."""


async def play(ends: Endpoints, state: Path, say: Callable[[str], None]) -> tuple[Cast, Json]:
    """Play every act, then reconcile. Returns the cast and the reconciliation's report. Raises StoryError where it goes wrong."""
    async with open_stage(ends, state) as (cast, outside):
        for number, (title, act) in enumerate(ACTS, start=1):
            begun = time.monotonic()
            await act(cast, outside)
            say(f"{number}. {title}: {time.monotonic() - begun:.1f} s")
        report = await reconcile(ends)
        await check_final(cast)
        return cast, report


async def check_final(cast: Cast) -> None:
    """Raises StoryError unless every customer owns exactly what the story gave them."""
    for name, expected in FINAL.items():
        wanted = {cast.names[code]: amount for code, amount in expected.items()}
        found = {asset: amount for asset, amount in (await posted_balances(cast, name)).items() if amount}
        if found != wanted:
            raise StoryError(f"{name} owns {found} and should own {wanted}")


@asynccontextmanager
async def open_stage(ends: Endpoints, state: Path) -> AsyncIterator[tuple[Cast, Outside]]:
    """The people, with everything they hold let go at the end."""
    cast = await gather_cast(ends, state)
    try:
        async with open_outside(ends) as outside:
            yield cast, outside
    finally:
        await cast.aclose()


async def reconcile(ends: Endpoints) -> Json:
    """`custody recon --json` until nothing moves any more. Raises StoryError with the breaks when they stay."""

    async def look() -> Json:
        report: Json = json.loads(await custody(ends, "recon", "--json", may_fail=True))
        return report

    try:
        return await until("books to equal chain and bank", look, lambda found: not found["breaks"], 30.0)
    except StoryError as error:
        raise StoryError(f"reconciliation found breaks: {error}") from error
