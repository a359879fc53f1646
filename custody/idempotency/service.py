"""Same key and body: same answer. Same key, other body: refused. Written in the transaction of the effect.

`begin` takes a lock that lasts until the transaction ends, so that a second caller with the same key waits for the first and
then sees its answer; there is no moment in which both may act. An effect without its key's row, or the reverse, cannot be
committed. Source: draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, select, text

from custody.db.session import LockTaken, UnitOfWork
from custody.idempotency.errors import KeyInProgress, KeyReused
from custody.idempotency.model import KeyUse, Replay
from custody.idempotency.tables import idempotency_keys as keys
from custody.identity.model import Principal

_OF_USES = text(
    "SELECT k.principal_id, k.key, k.fingerprint, k.status, k.body"
    " FROM unnest(CAST(:principals AS uuid[]), CAST(:names AS text[])) AS w(principal_id, key)"
    " JOIN idempotency_keys k ON k.tenant_id = :tenant AND k.principal_id = w.principal_id AND k.key = w.key"
)
"""One statement for any number of keys, so that Postgres plans it once."""
_RECORD_ALL = text(
    "INSERT INTO idempotency_keys (tenant_id, principal_id, key, fingerprint, status, body)"
    " SELECT :tenant, * FROM unnest(CAST(:principals AS uuid[]), CAST(:names AS text[]), CAST(:fingerprints AS bytea[]),"
    " CAST(:statuses AS smallint[]), CAST(:bodies AS bytea[]))"
)
PATIENCE_S = 10.0
"""How long a second caller waits for the first; then it is told to come back."""


async def begin(
    uow: UnitOfWork, principal: Principal, key: str, fingerprint: bytes, patience_s: float = PATIENCE_S
) -> Replay | None:
    """The recorded answer, or None when this caller is the first and may act. Raises KeyReused for another request,
    KeyInProgress when the first one takes longer than it is waited for.

    Locks the key until the transaction ends. `fingerprint` is the SHA-256 of method, route and canonical body.
    """
    name = f"idempotency/{uow.tenant}/{principal.id}/{key}"
    if not await uow.try_lock(name):
        await _wait(uow, [name], patience_s)
    rows = await uow.conn.execute(
        select(keys.c.fingerprint, keys.c.status, keys.c.body).where(
            keys.c.tenant_id == uow.tenant, keys.c.principal_id == principal.id, keys.c.key == key
        )
    )
    row = rows.one_or_none()
    if row is None:
        return None
    if row.fingerprint != fingerprint:
        raise KeyReused(key=key)
    return Replay(status=row.status, body=row.body)


async def begin_all(
    uow: UnitOfWork, uses: Sequence[KeyUse], patience_s: float = PATIENCE_S
) -> list[Replay | KeyReused | None]:
    """As `begin` for several keys at once: for each the recorded answer, the refusal, or None. Locks all of them, in one
    order."""
    await _wait(uow, [f"idempotency/{uow.tenant}/{use.principal.id}/{use.key}" for use in uses], patience_s)
    rows = await uow.conn.execute(
        _OF_USES,
        {
            "tenant": uow.tenant,
            "principals": [use.principal.id for use in uses],
            "names": [use.key for use in uses],
        },
    )
    known = {(row.principal_id, row.key): row for row in rows}
    found: list[Replay | KeyReused | None] = []
    for use in uses:
        row = known.get((use.principal.id, use.key))
        if row is None:
            found.append(None)
        elif row.fingerprint != use.fingerprint:
            found.append(KeyReused(key=use.key))
        else:
            found.append(Replay(status=row.status, body=row.body))
    return found


async def _wait(uow: UnitOfWork, names: Sequence[str], patience_s: float) -> None:
    try:
        await uow.lock_all(names, patience_s)
    except LockTaken as error:
        raise KeyInProgress from error


async def record_all(uow: UnitOfWork, answered: Sequence[tuple[KeyUse, Replay]]) -> None:
    """As `record`, for those of `begin_all` that acted."""
    if answered:
        await uow.conn.execute(
            _RECORD_ALL,
            {
                "tenant": uow.tenant,
                "principals": [use.principal.id for use, _ in answered],
                "names": [use.key for use, _ in answered],
                "fingerprints": [use.fingerprint for use, _ in answered],
                "statuses": [answer.status for _, answer in answered],
                "bodies": [answer.body for _, answer in answered],
            },
        )


async def record(
    uow: UnitOfWork, principal: Principal, key: str, fingerprint: bytes, status: int, body: bytes
) -> None:
    """Keep the answer. Call it last, in the transaction that `begin` opened the key in."""
    await uow.conn.execute(
        insert(keys).values(
            tenant_id=uow.tenant,
            principal_id=principal.id,
            key=key,
            fingerprint=fingerprint,
            status=status,
            body=body,
        )
    )
