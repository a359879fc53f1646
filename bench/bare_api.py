"""What the API is measured against: FastAPI and asyncpg as their manuals show them, with the same SQL and nothing else.

No authentication, no tenants, no schema of requests or responses, no limits, no logs. `python -m bench.bare_api PORT` serves it
over the database that `CUSTODY_BARE_DSN` names.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import uvicorn
from fastapi import FastAPI, Request

POOL = 10
_BALANCES = """
SELECT asset, posted, pending_in, pending_out, version FROM ledger_balances
 WHERE tenant_id = 1 AND kind = 'wallet' AND owner = $1 ORDER BY asset
"""
_PAGE = """
SELECT t.id, t.posted, t.booked_at, s.id AS asset, s.code, s.decimals, d.owner AS source, c.owner AS destination
  FROM ledger_transfers t
  JOIN ledger_accounts d ON d.tenant_id = t.tenant_id AND d.id = t.debit_account
  JOIN ledger_accounts c ON c.tenant_id = t.tenant_id AND c.id = t.credit_account
  JOIN assets s ON s.number = d.asset_id
 WHERE t.tenant_id = 1 AND t.kind = 'transfer' AND t.code = 'wallet_transfer'
   AND (t.batch_id, t.leaf) < (9223372036854775807 >> 20, 1048575)
 ORDER BY t.batch_id DESC, t.leaf DESC LIMIT 51
"""


def create_app(dsn: str) -> FastAPI:
    """Two reads."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=POOL, max_size=POOL) as pool:
            app.state.pool = pool
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/wallets/{wallet_id}/balances")
    async def balances(wallet_id: UUID, request: Request) -> list[dict[str, Any]]:
        return [_shown(row) for row in await request.app.state.pool.fetch(_BALANCES, wallet_id)]

    @app.get("/transfers")
    async def transfers(request: Request) -> list[dict[str, Any]]:
        rows = await request.app.state.pool.fetch(_PAGE)
        return [
            {
                "id": row["id"],
                "amount": {
                    "atomic": str(row["posted"]),
                    "asset": {"id": row["asset"], "code": row["code"], "decimals": row["decimals"]},
                },
                "source": row["source"],
                "destination": row["destination"],
                "booked_at": row["booked_at"],
            }
            for row in rows[:50]
        ]

    return app


def _shown(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "asset": row["asset"],
        "posted": str(row["posted"]),
        "pending_in": str(row["pending_in"]),
        "pending_out": str(row["pending_out"]),
    }


async def serve(dsn: str, port: int) -> None:
    """Serve with the same server and settings as the product's."""
    app = create_app(dsn)
    await uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=port, log_config=None, access_log=False, timeout_keep_alive=15
        )
    ).serve()


if __name__ == "__main__":
    asyncio.run(serve(os.environ["CUSTODY_BARE_DSN"], int(sys.argv[1])))
