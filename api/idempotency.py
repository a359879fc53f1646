"""Commands that may be repeated: the first answer is recorded in the transaction of its effect, and given again.

A refusal changes nothing and records nothing, so that the same key may be tried again once there are funds. While the first call
runs, others with its key wait for its transaction inside Postgres and then get its answer.
Source: draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import Depends, Header, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.auth import Authenticated, Caller, requires
from api.deps import metrics_of, route_of
from api.strict_json import fingerprint
from custody.db.session import UnitOfWork
from custody.events.trace import current_trace
from custody.idempotency import service as idempotency
from custody.idempotency.model import KeyUse, Replay
from custody.kernel.errors import CustodyError
from custody.kernel.ids import derived_uuid

REPLAYED_HEADER = "Idempotency-Replayed"

KEY_MAX = 128
_KEY = re.compile(rf"[\x21-\x7e]{{1,{KEY_MAX}}}")
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_MAX,
        pattern=r"^[\x21-\x7e]+$",
        description="The caller's own name of this command. The same key and body give the same answer; another body is refused.",
        examples=["order-7421-payment"],
    ),
]

_ACCEPTED = 202
"""What is recorded of a request that was accepted and whose answer is derived each time."""

Effect = Callable[[UnitOfWork], Awaitable[BaseModel]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Caller):
    """One authorised request to change something, under the caller's key."""

    key: str
    """The caller's name of it."""
    request: Request
    """Where its method, path and body are."""

    def derived_id(self, kind: str) -> UUID:
        """The request id of an effect that spans several transactions: the same each time the command is repeated."""
        return derived_uuid(kind, self.principal.tenant, self.principal.id, self.key)

    async def run(self, effect: Effect, status: int = 201) -> Response:
        """Carry out the effect and record its answer in one transaction, or give the recorded answer. Raises KeyReused."""
        mark = await self._fingerprint()
        async with self.app.db.unit_of_work(self.principal.tenant) as uow:
            replay = await idempotency.begin(uow, self.principal, self.key, mark)
            if replay is not None:
                return self._replayed(replay)
            body = (await effect(uow)).model_dump_json().encode()
            await idempotency.record(uow, self.principal, self.key, mark, status, body)
        return _answer(status, body)

    async def recorded(self) -> Response | None:
        """The recorded answer, if any: asked first by commands whose effect spans several transactions. Raises KeyReused."""
        mark = await self._fingerprint()
        async with self.app.db.unit_of_work(self.principal.tenant) as uow:
            replay = await idempotency.begin(uow, self.principal, self.key, mark)
        return None if replay is None else self._replayed(replay)

    async def accept(self, check: Callable[[UnitOfWork], Awaitable[None]]) -> bool:
        """Bind the key to this request, after `check`, in one transaction. Returns whether it was bound before.

        For commands whose answer is derived anew from what was done, however often they are repeated. Raises KeyReused.
        """
        mark = await self._fingerprint()
        async with self.app.db.unit_of_work(self.principal.tenant) as uow:
            if await idempotency.begin(uow, self.principal, self.key, mark) is not None:
                return True
            await check(uow)
            await idempotency.record(uow, self.principal, self.key, mark, _ACCEPTED, b"")
        return False

    def answer(self, body: BaseModel, status: int, *, replayed: bool) -> Response:
        """A response, marked when the request was made before."""
        if replayed:
            metrics_of(self.request).replay_observed(route_of(self.request))
        return _answer(status, body.model_dump_json().encode(), replayed=replayed)

    async def wake(self, job: str, object_id: UUID) -> None:
        """Tell the worker that there is something to do. Best effort: a sweep finds it anyway."""
        await self.app.waker.wake(job, self.principal.tenant, object_id, current_trace())

    async def use(self) -> KeyUse:
        """This request under its key, for effects that share a transaction with others'."""
        return KeyUse(principal=self.principal, key=self.key, fingerprint=await self._fingerprint())

    def answered(self, found: Replay | CustodyError) -> Response:
        """The response that such an effect's answer makes. Raises the refusal."""
        if isinstance(found, CustodyError):
            raise found
        return self._replayed(found) if found.replayed else _answer(found.status, found.body)

    async def _fingerprint(self) -> bytes:
        raw = await self.request.body()
        return fingerprint(
            self.request.method, self.request.scope["path"], await self.request.json() if raw else None
        )

    def _replayed(self, replay: Replay) -> Response:
        route = route_of(self.request)
        metrics_of(self.request).replay_observed(route)
        structlog.get_logger().info("command.replayed", route=route)
        return _answer(replay.status, replay.body, replayed=True)


class commands:  # noqa: N801 - beside `requires`
    """A dependency for endpoints that change something: authenticated, with one of these permissions, under a key."""

    def __init__(self, *any_of: str) -> None:
        """Each a permission of `custody/identity/roles.py`."""
        self.any_of = any_of
        self._authorize = requires(*any_of)

    async def __call__(self, request: Request, _: Authenticated, key: IdempotencyKey) -> Command:
        """The command, if they may: who asks is known before the key is looked at."""
        return await self._command(request, key)

    async def plainly(self, request: Request) -> Command | None:
        """As Plain."""
        keys = request.headers.getlist("idempotency-key")
        fits = len(keys) == 1 and _KEY.fullmatch(keys[0]) is not None
        return await self._command(request, keys[0]) if fits else None

    async def _command(self, request: Request, key: str) -> Command:
        caller = await self._authorize(request)
        return Command(app=caller.app, principal=caller.principal, key=key, request=request)


Write = Annotated[Command, Depends(commands("write"))]
Approve = Annotated[Command, Depends(commands("approve"))]
Operate = Annotated[Command, Depends(commands("operate"))]


def _answer(status: int, body: bytes, *, replayed: bool = False) -> Response:
    headers = {REPLAYED_HEADER: "true"} if replayed else {}
    return Response(body, status, headers, "application/json")
