"""Acts 4 to 6: deposits on both chains, a transfer between customers, and four withdrawals with four ends."""

from __future__ import annotations

import asyncio

from devnet.config import EVM_CHAIN, STELLAR_CHAIN
from devnet.story.cast import Cast
from devnet.story.client import Json, StoryError
from devnet.story.opening import holds
from devnet.story.outside import PAYER_USDC, Outside, StellarPayment

XLM = 10**7
USDC = 10**7
ETH = 10**18
TUSD = 10**6

EXPIRES_IN_S = 12
"""Validity of the withdrawal that nobody approves in time."""


async def deposit(cast: Cast, outside: Outside) -> None:
    """Strangers pay Ann: XLM and USDC to her muxed address, USDC to the account with her memo, ether and a token to her own;
    Bob the token."""
    muxed = cast.names[f"ann {STELLAR_CHAIN}"]
    account, memo = cast.names[f"account {STELLAR_CHAIN}"], cast.names[f"ann {STELLAR_CHAIN} memo"]
    await asyncio.gather(
        outside.pay_stellar(
            [
                StellarPayment(destination=muxed, code="XLM", amount=500 * XLM),
                StellarPayment(destination=muxed, code="USDC", amount=200 * USDC),
                StellarPayment(destination=account, code="USDC", amount=50 * USDC, memo=memo),
            ]
        ),
        pay_on_evm(cast, outside),
    )
    await holds(cast, "ann", "XLM", 500 * XLM)
    await holds(cast, "ann", "USDC", 250 * USDC)
    await holds(cast, "ann", "ETH", 2 * ETH)
    await holds(cast, "ann", "TUSD", 1000 * TUSD)
    await holds(cast, "bob", "TUSD", 50 * TUSD)


async def pay_on_evm(cast: Cast, outside: Outside) -> None:
    """Ann gets ether and tokens, Bob tokens only: the gas to sweep them has to be sent to his address."""
    await outside.pay_evm(cast.names[f"ann {EVM_CHAIN}"], wei=2 * ETH, tokens=1000 * TUSD)
    await outside.pay_evm(cast.names[f"bob {EVM_CHAIN}"], wei=0, tokens=50 * TUSD)


async def move(cast: Cast) -> None:
    """Ann pays Bob inside the books; no chain is touched."""
    for code, amount in (("XLM", 60 * XLM), ("USDC", 25 * USDC)):
        await cast.app.post(
            "/v1/transfers",
            {
                "from_wallet_id": cast.names["ann"],
                "to_wallet_id": cast.names["bob"],
                "asset": cast.names[code],
                "amount": str(amount),
            },
            key=f"move-{code}",
        )
        await holds(cast, "bob", code, amount)


async def withdraw(cast: Cast, outside: Outside) -> None:
    """One withdrawal per chain is paid with two of three approvals; one is vetoed; one expires with a single approval."""
    expiring = await ask(
        cast, "bob", "USDC", 5 * USDC, outside.stellar_payee, key="expires", expires_in_s=EXPIRES_IN_S
    )
    await approve_in_time(cast, expiring["id"])
    vetoed = await ask(cast, "bob", "XLM", 10 * XLM, outside.stellar_payee, key="vetoed")
    usdc = await ask(cast, "ann", "USDC", 100 * USDC, outside.stellar_payee, key="paid-usdc")
    ether = await ask(cast, "ann", "ETH", ETH // 2, outside.evm_payee, key="paid-eth")
    await cast.approve(vetoed["id"], "alice")
    await cast.approve(vetoed["id"], "carol", reject=True)
    await asyncio.gather(cast.approve(usdc["id"], "alice", "bob"), cast.approve(ether["id"], "bob", "carol"))
    await cast.reaches(usdc["id"], "settled")
    await cast.reaches(ether["id"], "settled")
    await cast.reaches(vetoed["id"], "rejected")
    await cast.reaches(expiring["id"], "expired")
    await holds(cast, "ann", "USDC", 125 * USDC)
    await holds(cast, "ann", "ETH", 3 * ETH // 2)
    received = await outside.received()
    if received != (PAYER_USDC - 250 * USDC + 100 * USDC, ETH // 2):
        raise StoryError(f"the strangers hold {received}, which is not what was paid to them once")


async def approve_in_time(cast: Cast, withdrawal_id: str) -> None:
    """One approval, if the window is still open: on a machine where processes die it may have closed before."""
    try:
        await cast.approve(withdrawal_id, "alice")
    except StoryError:
        await cast.reaches(withdrawal_id, "expired")


async def ask(
    cast: Cast, name: str, code: str, amount: int, destination: str, *, key: str, expires_in_s: int = 0
) -> Json:
    """Request a withdrawal; it must be waiting for approvers afterwards, or have gone on already when asked for again."""
    body: Json = {
        "wallet_id": cast.names[name],
        "asset": cast.names[code],
        "amount": str(amount),
        "destination": destination,
    }
    if expires_in_s:
        body["expires_in_s"] = expires_in_s
    asked = await cast.app.post("/v1/withdrawals", body, key=f"withdraw-{key}")
    if asked["state"] != "awaiting_approval":
        raise StoryError(f"withdrawal {key} was answered with state {asked['state']}")
    return asked
