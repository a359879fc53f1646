"""The quiet point: nothing is under way any more, and everything must fit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from devnet.checker.main import Checked, check
from devnet.config import EVM_CHAIN
from devnet.evm import Outsider
from devnet.stack import DATABASE, Stack
from devnet.story.cast import Cast, custody, secret_of
from devnet.story.client import StoryError
from devnet.story.play import reconcile
from tests.soak.people import Strangers

LOOK_S = 1.0
UNDER_WAY = """
SELECT 'withdrawal ' || kind || ' ' || state || ' ' || coalesce(nullif(stuck_reason, ''), '-') AS what FROM withdrawals
 WHERE state NOT IN ('settled', 'rejected', 'expired', 'cancelled', 'blocked', 'failed')
UNION ALL SELECT 'deposit ' || state FROM deposits WHERE state IN ('observed')
UNION ALL SELECT 'payout ' || state FROM payouts WHERE state NOT IN ('settled', 'rejected', 'returned', 'cancelled')
"""
"""What has not ended, as the database's owner sees it."""
LEFT_OVER = {
    "holds that are open": "SELECT count(*) FROM ledger_holds WHERE state = 'open'",
    "attempts that have not ended": "SELECT count(*) FROM withdrawal_attempts WHERE state NOT IN "
    "('confirmed', 'lapsed', 'refused', 'failed')",
    "withdrawals that are stuck": "SELECT count(*) FROM withdrawals WHERE stuck_since IS NOT NULL",
    "events that nobody was told of": "SELECT count(*) FROM outbox WHERE relayed_at IS NULL",
    "open cases": "SELECT count(*) FROM deposit_cases WHERE state = 'open'",
    "nonces that were taken twice by chain": "SELECT count(*) FROM (SELECT vault_id, sequence FROM withdrawal_attempts "
    "WHERE chain LIKE 'eip155:%' AND state IN ('confirmed', 'failed') GROUP BY 1, 2 HAVING count(*) > 1) twice",
    "gaps between nonces": "SELECT count(*) FROM (SELECT vault_id, max(sequence) + 1 - count(DISTINCT sequence) AS gap "
    "FROM withdrawal_attempts WHERE chain LIKE 'eip155:%' AND state IN ('confirmed', 'failed') GROUP BY 1) gaps WHERE gap > 0",
}
"""Questions whose answer is none."""


class NotQuiet(StoryError):
    """Something is wrong, or does not come to its end."""


async def come_to_rest(
    stack: Stack, strangers: Strangers, patience_s: float, say: Callable[[str], None]
) -> None:
    """Wait until all has ended. Raises NotQuiet with what has not."""
    began = time.monotonic()
    told = 0.0
    while True:
        left = await asyncio.to_thread(stack.postgres.run_sql, _counted(UNDER_WAY), DATABASE)
        if not left.strip():
            say(f"all has ended {time.monotonic() - began:.0f} s after the last fault")
            return
        waited = time.monotonic() - began
        if waited > patience_s:
            raise NotQuiet(f"after {waited:.0f} s without faults there is still: {left.strip()}")
        if waited - told > 20:
            told = waited
            say(f"  {waited:.0f} s: " + "; ".join(left.split("\n")).strip("; "))
        await strangers.offer_again()
        await asyncio.sleep(LOOK_S)


async def examine(stack: Stack, cast: Cast) -> Checked:
    """Books, chains, holds, nonces, audit. Raises NotQuiet with all that is wrong."""
    wrong: list[str] = []
    for what, question in LEFT_OVER.items():
        count = (await asyncio.to_thread(stack.postgres.run_sql, question, DATABASE)).strip()
        wrong += [f"{count} {what}"] if count != "0" else []
    wrong += await _nonces(stack)
    try:
        await reconcile(stack.endpoints)
    except StoryError as error:
        wrong.append(str(error))
    found = await asyncio.to_thread(
        check,
        api_url=stack.endpoints.api_url,
        token=secret_of(cast.state / "keys" / "app"),
        stellar_url=stack.endpoints.stellar_rpc_url,
        evm_url=stack.endpoints.evm_rpc_url,
    )
    wrong += found.wrong
    for verb in ("seal", "verify"):
        try:
            await custody(stack.endpoints, "audit", verb)
        except StoryError as error:
            wrong.append(str(error))
    if wrong:
        raise NotQuiet("\n  ".join([f"{len(wrong)} things are wrong:", *wrong[:40]]))
    return found


async def _nonces(stack: Stack) -> list[str]:
    """No transaction of ours waits at the node, and none of its nonces was left out."""
    listed = f"SELECT account FROM vaults WHERE chain = '{EVM_CHAIN}'"
    accounts = (await asyncio.to_thread(stack.postgres.run_sql, listed, DATABASE)).split()
    wrong = []
    async with Outsider(stack.endpoints.evm_rpc_url) as node:
        pool = await node.call("txpool_content")
        waits = {account.lower() for part in pool.values() for account in part}
        for account in accounts:
            mined = await node.call("eth_getTransactionCount", account, "latest")
            waiting = await node.call("eth_getTransactionCount", account, "pending")
            if mined != waiting or account.lower() in waits:
                wrong.append(f"{account} has nonce {mined} in blocks, {waiting} with what waits at the node")
    return wrong


def _counted(rows: str) -> str:
    return f"SELECT what || ' x' || count(*) FROM ({rows}) AS found GROUP BY what ORDER BY what"
