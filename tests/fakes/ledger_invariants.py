"""What must hold for the books at any moment, as queries that return the rows which break it."""

from __future__ import annotations

from sqlalchemy import text

from custody.db.session import ReadSession

INVARIANTS = {
    "debits equal credits per asset": (
        "SELECT asset FROM ledger_trial_balance WHERE difference <> 0 OR difference_pending <> 0"
    ),
    "entries sum to zero per transfer": (
        "SELECT transfer_id FROM ledger_entries GROUP BY transfer_id HAVING sum(signed) <> 0 OR count(*) <> 2"
    ),
    "an account's counters are the sums of its entries": """
        SELECT a.id FROM ledger_accounts a
        LEFT JOIN (SELECT account_id,
                          sum(posted) FILTER (WHERE side = 'debit') AS dp, sum(posted) FILTER (WHERE side = 'credit') AS cp,
                          sum(pending) FILTER (WHERE side = 'debit') AS dh, sum(pending) FILTER (WHERE side = 'credit') AS ch
                     FROM ledger_entries GROUP BY account_id) e ON e.account_id = a.id
        WHERE (a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending)
              <> (coalesce(e.dp, 0), coalesce(e.cp, 0), coalesce(e.dh, 0), coalesce(e.ch, 0))""",
    "versions count from one without gaps": """
        SELECT a.id FROM ledger_accounts a LEFT JOIN ledger_entries e ON e.account_id = a.id
        GROUP BY a.id, a.version
        HAVING count(e.version) <> a.version OR count(DISTINCT e.version) <> a.version
               OR coalesce(max(e.version), 0) <> a.version""",
    "each running balance follows from the one before": """
        SELECT account_id FROM (
          SELECT e.account_id, e.balance, e.held, e.booked_at, a.normal_side = e.side AS grows, e.posted, e.pending,
                 coalesce(lag(e.balance) OVER w, 0) AS balance_before, coalesce(lag(e.held) OVER w, 0) AS held_before,
                 lag(e.booked_at) OVER w AS booked_before
            FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
          WINDOW w AS (PARTITION BY e.account_id ORDER BY e.version)) x
        WHERE balance <> balance_before + CASE WHEN grows THEN posted ELSE -posted END
           OR held <> held_before + CASE WHEN grows THEN 0 ELSE pending END
           OR booked_at < booked_before""",
    "each entry knows the place of the one before it, and its account that of the last": """
        SELECT account_id FROM (
          SELECT e.account_id, e.prior, lag(e.batch_id << 20 | e.leaf, 1, 0::bigint) OVER w AS before,
                 lead(e.version) OVER w IS NULL AS last, e.batch_id << 20 | e.leaf AS place, a.head
            FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
          WINDOW w AS (PARTITION BY e.account_id ORDER BY e.version)) x
        WHERE prior <> before OR last AND head <> place""",
    "a command knows the place of the transfer that it made": """
        SELECT t.id FROM ledger_transfers t JOIN ledger_commands c ON c.id = t.id
        WHERE (c.batch_id, c.leaf, c.booked_at) IS DISTINCT FROM (t.batch_id, t.leaf, t.booked_at)""",
    "a guarded account was at no version below its floor, holds included": """
        SELECT e.account_id FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
        WHERE a.guard = 'always' AND e.balance - e.held < a.floor""",
    "no account is above its ceiling": """
        SELECT b.account_id FROM ledger_balances b JOIN ledger_accounts a ON a.id = b.account_id
        WHERE b.posted + b.pending_in > a.ceiling""",
    "every batch has as many transfers as it says, its leaves counted from zero": """
        SELECT coalesce(b.id, t.batch_id) FROM ledger_batches b
        FULL JOIN (SELECT batch_id, count(*) AS n, min(leaf) AS low, max(leaf) AS high, max(booked_at) AS booked_at
                     FROM ledger_transfers GROUP BY batch_id) t ON t.batch_id = b.id
        WHERE (b.transfers, 0, b.transfers - 1, b.booked_at) IS DISTINCT FROM (t.n, t.low, t.high, t.booked_at)""",
    "open holds are what is pending": """
        SELECT a.id FROM ledger_accounts a
        LEFT JOIN (SELECT id, sum(d) AS d, sum(c) AS c FROM (
                     SELECT debit_account AS id, remaining AS d, 0 AS c FROM ledger_holds
                     UNION ALL SELECT credit_account, 0, remaining FROM ledger_holds) u GROUP BY id) h ON h.id = a.id
        WHERE (a.debits_pending, a.credits_pending) <> (coalesce(h.d, 0), coalesce(h.c, 0))""",
    "a transfer exists exactly where a moving command was applied": """
        SELECT coalesce(c.id, t.id) FROM (
          SELECT id FROM ledger_commands
           WHERE result = 'applied' AND kind NOT IN ('freeze', 'unfreeze', 'close')) c
        FULL JOIN ledger_transfers t ON t.id = c.id WHERE c.id IS NULL OR t.id IS NULL""",
}


async def broken_invariants(session: ReadSession) -> list[str]:
    """The names of those that do not hold for the session's tenant. Row-level security limits each query to it."""
    broken = []
    for name, query in INVARIANTS.items():
        if (await session.conn.execute(text(query))).first() is not None:
            broken.append(name)
    return broken
