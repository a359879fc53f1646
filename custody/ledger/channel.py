"""The batcher's own way to Postgres: one connection, one round trip per batch, one commit per batch.

A statement outside an explicit transaction is a transaction of its own, so a batch needs no BEGIN and COMMIT of ours; the tenant
that row-level security compares with is set for the session, and only when it changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg

from custody.kernel.ids import TenantId
from custody.ledger.errors import LedgerBusy, PostingFailed
from custody.ledger.model import Command, Outcome
from custody.ledger.wire import GIVEN_WAY, encode, outcomes

_POST = "SELECT * FROM ledger_post($1, true, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
_POST_UNLESS_STOPPED = (
    "SELECT * FROM ledger_post_unless_stopped("
    "$1, $2, $3, true, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
)
_STOPPED_SINCE = "CU002"
_ACT_FOR = "SELECT set_config('app.tenant', $1, false)"
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""After any of these the batch may or may not be committed. A server that shuts down or ends a session reports class 57; a
timeout is an OSError; the driver calls it an internal error when the line breaks between two parts of an answer."""


class ChannelLost(Exception):
    """The connection is gone, or was given up; what became of the last call is not known."""


class StoppedSince(Exception):
    """Something was stopped after the caller had looked at the kill switches; nothing was done. Look again."""


@dataclass(frozen=True, slots=True)
class StopMark:
    """Up to where a caller has looked at its tenant's kill switches when it let commands pass."""

    lock: int
    """Of the switches: a stop takes it alone, and whoever posts holds it shared until the commit."""
    newest: int
    """Number of the newest stop that was seen; 0 where there has never been one."""


class Channel(Protocol):
    """Where the batcher posts."""

    async def post(
        self, tenant: TenantId, chains: Sequence[Sequence[Command]], mark: StopMark | None = None
    ) -> list[Outcome]:
        """Post and commit, each chain by itself; with a mark, unless something was stopped since. Raises ChannelLost (outcome
        unknown), LedgerBusy (nothing done, repeat), StoppedSince and PostingFailed (nothing done, repeating is of no use)."""
        ...

    async def close(self) -> None:
        """Hang up; safe when the line is dead already."""
        ...


class PostgresChannel:
    """A Channel over one asyncpg connection."""

    def __init__(self, connection: asyncpg.Connection[Any], timeout_s: float) -> None:
        """`connection` is this channel's alone. A call that takes longer than the timeout counts as lost."""
        self._connection = connection
        self._timeout_s = timeout_s
        self._tenant: TenantId | None = None

    async def post(
        self, tenant: TenantId, chains: Sequence[Sequence[Command]], mark: StopMark | None = None
    ) -> list[Outcome]:
        """See Channel.post."""
        arrays = encode(tenant, chains)
        try:
            if tenant != self._tenant:
                await self._connection.fetchval(_ACT_FOR, str(tenant), timeout=self._timeout_s)
                self._tenant = tenant
            answer = await self._connection.fetchrow(*_call(tenant, arrays, mark), timeout=self._timeout_s)
        except _LOST as error:
            raise ChannelLost from error
        except asyncpg.PostgresError as error:
            if error.sqlstate in GIVEN_WAY or isinstance(error, asyncpg.InsufficientResourcesError):
                raise LedgerBusy from error
            if error.sqlstate == _STOPPED_SINCE:
                raise StoppedSince from error
            raise PostingFailed("the posting function failed", sqlstate=error.sqlstate) from error
        if answer is None:
            raise PostingFailed("the posting function answered nothing", sqlstate="")
        return outcomes(chains, answer)

    async def close(self) -> None:
        """See Channel.close. Does not wait for a server that answers nothing."""
        self._connection.terminate()


def _call(tenant: TenantId, arrays: Sequence[object], mark: StopMark | None) -> tuple[Any, ...]:
    if mark is None:
        return _POST, tenant, *arrays
    return _POST_UNLESS_STOPPED, mark.lock, mark.newest, tenant, *arrays


async def connect(url: str, *, timeout_s: float = 30.0) -> PostgresChannel:
    """A fresh channel as the role in the URL. Raises ChannelLost when the server cannot be reached."""
    try:
        connection = await asyncpg.connect(url, timeout=timeout_s)
    except (*_LOST, asyncpg.PostgresError) as error:
        raise ChannelLost from error
    return PostgresChannel(connection, timeout_s)
