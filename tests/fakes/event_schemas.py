"""Whether events tell what `api/events.json` promises of them."""

from __future__ import annotations

import json
from pathlib import Path

from jsonschema import Draft202012Validator, FormatChecker
from sqlalchemy import select

from custody.db.session import Database
from custody.events.tables import outbox
from custody.kernel.ids import TenantId

PUBLISHED = Path(__file__).parents[2] / "api" / "events.json"


async def broken_promises(database: Database, tenant: TenantId) -> list[str]:
    """What differs, of every event that the tenant ever had: a field that is missing, of another kind, or not promised."""
    schemas = json.loads(PUBLISHED.read_text(encoding="utf-8"))["$defs"]
    async with database.read(tenant) as session:
        rows = (await session.conn.execute(select(outbox.c.type, outbox.c.data).distinct())).all()
    found = []
    for row in rows:
        promised = schemas[row.type]["properties"]["data"] | {"additionalProperties": False}
        errors = Draft202012Validator(promised, format_checker=FormatChecker()).iter_errors(row.data)
        found += [f"{row.type}: {error.message}" for error in errors]
    return found
