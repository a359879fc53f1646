"""The least that a batched ledger on Postgres can do: what our own figures are to be held against, next to the baselines.

Two tables, one call per batch: lock the accounts in order, refuse nothing, add up, write one row per transfer under its id. No
holds, no funds checked, no recorded answers, no versions, no history per account, no root, no event, no tenant. Posted by
the same batcher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from custody.kernel.ids import TenantId
from custody.ledger.channel import StopMark
from custody.ledger.model import Command, Outcome, ResultCode, Transfer

_SCHEMA = """
CREATE TABLE lean_accounts (id uuid PRIMARY KEY, balance numeric(78,0) NOT NULL) WITH (fillfactor = 50);
CREATE TABLE lean_transfers (id uuid PRIMARY KEY, debit uuid NOT NULL, credit uuid NOT NULL, amount numeric(78,0) NOT NULL,
                             booked_at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE FUNCTION lean_post(p_id uuid[], p_debit uuid[], p_credit uuid[], p_amount text[]) RETURNS void LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(1);
  PERFORM FROM (SELECT DISTINCT y.id FROM unnest(p_debit || p_credit) AS y(id) ORDER BY y.id) AS x, LATERAL (
    SELECT FROM lean_accounts a WHERE a.id = x.id LIMIT 1 FOR UPDATE) AS o;
  UPDATE lean_accounts a SET balance = a.balance + x.amount
    FROM (SELECT y.id, sum(y.amount) AS amount
            FROM (SELECT unnest(p_debit) AS id, -unnest(p_amount)::numeric AS amount
                  UNION ALL SELECT unnest(p_credit), unnest(p_amount)::numeric) AS y GROUP BY y.id) AS x
   WHERE a.id = x.id;
  INSERT INTO lean_transfers (id, debit, credit, amount) SELECT * FROM unnest(p_id, p_debit, p_credit, p_amount::numeric[]);
END $$;
"""


async def prepare(dsn: str, tenant: TenantId, keys: Sequence[Any]) -> None:
    """Tables, function and one row for each account key."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_SCHEMA)
        await connection.execute(
            "INSERT INTO lean_accounts SELECT id, 0 FROM unnest($1::uuid[]) AS x(id)",
            [key.id_for(tenant) for key in keys],
        )
        await connection.execute("VACUUM ANALYZE lean_accounts")
    finally:
        await connection.close()


class LeanChannel:
    """A channel of the batcher (`custody.ledger.channel.Channel`) that posts to the lean tables."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        """`connection` is this channel's alone."""
        self._connection = connection

    async def post(
        self,
        tenant: TenantId,
        chains: Sequence[Sequence[Command]],
        mark: StopMark | None = None,  # noqa: ARG002 - a lean ledger has no switches
    ) -> list[Outcome]:
        """Post a batch of transfers; every one of them is applied."""
        transfers = [command for chain in chains for command in chain if isinstance(command, Transfer)]
        await self._connection.execute(
            "SELECT lean_post($1, $2, $3, $4)",
            [one.id for one in transfers],
            [one.debit.id_for(tenant) for one in transfers],
            [one.credit.id_for(tenant) for one in transfers],
            [str(one.amount.atomic) for one in transfers],
        )
        return [Outcome(command_id=one.id, result=ResultCode.APPLIED, replayed=False) for one in transfers]

    async def close(self) -> None:
        """Hang up."""
        self._connection.terminate()


async def connect(dsn: str) -> LeanChannel:
    """A fresh channel."""
    return LeanChannel(await asyncpg.connect(dsn))
