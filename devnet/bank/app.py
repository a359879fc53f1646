"""The sandbox bank over HTTP. For development only: it knows no customers' passwords and moves no money.

POST /v1/payments                         take an order, idempotent by end_to_end_id
GET  /v1/payments/{end_to_end_id}         where it stands, with its history
GET  /v1/statement?account=&from=&to=     booked entries with running balance
POST /sandbox/accounts                    open an account {iban, holder}
POST /sandbox/incoming                    an outsider pays {account, amount, remittance, debtor_iban, debtor_name}
GET  /livez
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from devnet.bank.bank import Bank
from devnet.bank.book import show_payment
from devnet.bank.callbacks import Notifier
from devnet.bank.ibans import Answer, behaviour_of
from devnet.bank.model import BankError, JsonObject, PaymentOrder

Endpoint = Callable[[Request], Awaitable[Response]]


def build_app(bank: Bank, notifier: Notifier, *, stall: timedelta, tick: timedelta) -> Starlette:
    """The server of one bank. `stall` is how long an answer lingers that is meant to come too late."""

    @asynccontextmanager
    async def run_bank(_app: Starlette) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(notifier.run(stop, tick))
            yield
            stop.set()

    desk = _Desk(bank, stall)
    return Starlette(
        lifespan=run_bank,
        routes=[
            Route("/v1/payments", _guarded(desk.take), methods=["POST"]),
            Route("/v1/payments/{reference}", _guarded(desk.find)),
            Route("/v1/statement", _guarded(desk.statement)),
            Route("/sandbox/accounts", _guarded(desk.open_account), methods=["POST"]),
            Route("/sandbox/incoming", _guarded(desk.receive), methods=["POST"]),
            Route("/livez", _guarded(desk.live)),
        ],
    )


class _Desk:
    """One method per endpoint: parse, ask the bank, shape the answer."""

    def __init__(self, bank: Bank, stall: timedelta) -> None:
        self._bank = bank
        self._stall = stall

    async def take(self, request: Request) -> Response:
        wanted = [field.name for field in fields(PaymentOrder)]
        body = await _body(request, wanted)
        order = PaymentOrder(**{name: body[name] for name in wanted})
        payment = self._bank.take(order, datetime.now(UTC))
        first = payment.events[0]
        # The same order gets the same answer for ever, wherever the payment stands by now.
        answer = {**show_payment(payment), "status": first.status, "code": first.code}
        behaviour = behaviour_of(order.creditor_iban)
        if behaviour.answer is Answer.STALL:
            await asyncio.sleep(self._stall.total_seconds())
        if behaviour.answer is Answer.GARBLE:
            answer["amount"] = str(payment.amount + 1)
        return JSONResponse(answer, status_code=422 if first.status == "refused" else 202)

    async def find(self, request: Request) -> Response:
        return JSONResponse(self._bank.find(request.path_params["reference"]))

    async def statement(self, request: Request) -> Response:
        asked = request.query_params
        try:
            first, last = date.fromisoformat(asked["from"]), date.fromisoformat(asked["to"])
            account = asked["account"]
        except (KeyError, ValueError) as wrong:
            raise BankError(400, "bad_query", "account, from and to (YYYY-MM-DD) are needed") from wrong
        return JSONResponse(self._bank.statement(account, first, last))

    async def open_account(self, request: Request) -> Response:
        body = await _body(request, ["iban", "holder"])
        account = self._bank.open_account(body["iban"], body["holder"], datetime.now(UTC))
        return JSONResponse({"iban": account.iban, "holder": account.holder, "balance": str(account.balance)})

    async def receive(self, request: Request) -> Response:
        body = await _body(request, ["account", "amount", "remittance", "debtor_iban", "debtor_name"])
        return JSONResponse(self._bank.receive(body, datetime.now(UTC)), status_code=201)

    async def live(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok", "for": "development only"})


def _guarded(endpoint: Endpoint) -> Endpoint:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except BankError as refusal:
            body = {"code": refusal.code, "detail": refusal.detail}
            return JSONResponse(body, status_code=refusal.status)

    return answer


async def _body(request: Request, wanted: list[str]) -> JsonObject:
    """The JSON object of the request, with exactly these fields, all of them text."""
    try:
        body = json.loads(await request.body())
    except ValueError as wrong:
        raise BankError(400, "bad_json") from wrong
    if not isinstance(body, dict) or set(body) != set(wanted):
        raise BankError(400, "bad_fields", "expected exactly: " + ", ".join(wanted))
    if not all(isinstance(value, str) for value in body.values()):
        raise BankError(400, "bad_fields", "every field is a string")
    return body
