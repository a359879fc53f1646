"""The adapter to the sandbox bank, and the pattern for real ones: three endings, our own reference, raw bytes verified first."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Mapping
from datetime import date
from typing import Any
from urllib.parse import quote

import httpx
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from custody.banking.model import BankStatement
from custody.payouts.model import (
    Accepted,
    Declined,
    Lost,
    Mismatched,
    PaymentInstruction,
    SubmissionReport,
)
from rails.base import (
    Absent,
    BadCallbackSignature,
    Found,
    MalformedCallback,
    Observation,
    RailUnavailable,
    StatusAnswer,
    Unanswered,
)
from rails.sandbox import wire

_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_PAYMENT_EVENTS = frozenset({"payment.settled", "payment.rejected", "payment.returned"})


_FORM_ERRORS = frozenset(
    {"bad_fields", "bad_amount", "bad_reference", "bad_currency", "bad_iban", "unknown_account"}
)
"""The bank's documented words for orders that it can never take. Any other 4xx may come from anything on the way."""


class BadCallbackSecret(ValueError):
    """The configured secret is not `whsec_` and base64 of at least 24 bytes. Source: Standard Webhooks 1.0."""


class SandboxRail:
    """Speaks to one sandbox bank over HTTP."""

    def __init__(
        self,
        rail_id: str,
        *,
        base_url: str,
        callback_secret: str,
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Raises BadCallbackSecret."""
        self._id = rail_id
        self._webhook = Webhook(_secret_bytes(callback_secret))
        # One limit for the whole call, below; the environment's proxies are none of a bank's business.
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            base_url=base_url,
            timeout=None,  # noqa: S113 (limited in _call)
            trust_env=False,
            verify=True if tls is None else tls,
        )

    @property
    def id(self) -> str:
        """The rail's name in the settings."""
        return self._id

    async def submit(self, instruction: PaymentInstruction) -> SubmissionReport:
        """Ask for a payment. Only the bank's own documented words are taken as accepted or declined; all else is Lost."""
        order = wire.payment_order(instruction)
        try:
            answer = await self._call("POST", "/v1/payments", json=order)
        except _NoAnswer as trouble:
            return Lost(cause=str(trouble))
        try:
            return _read_submission(answer, order)
        except wire.Unreadable as wrong:
            return Lost(cause=f"unreadable answer {answer.status_code}: {wrong}")

    async def status(self, reference: str) -> StatusAnswer:
        """Ask about a payment by our own reference."""
        try:
            answer = await self._call("GET", f"/v1/payments/{quote(reference, safe='')}")
        except _NoAnswer as trouble:
            return Unanswered(cause=str(trouble))
        try:
            body = wire.read_object(answer.content)
            # A bare 404 may come from anything on the way; only the bank's own code proves absence.
            if answer.status_code == 404 and body.get("code") == "unknown_reference":
                return Absent()
            if answer.status_code != 200:
                return Unanswered(cause=f"status {answer.status_code}")
            if wire.text(body, "end_to_end_id") != reference:
                return Unanswered(cause="answer about another reference")
            return Found(observations=wire.payment_history(self._id, body, answer.content))
        except wire.Unreadable as wrong:
            return Unanswered(cause=f"unreadable answer: {wrong}")

    def parse_callback(self, headers: Mapping[str, str], raw_body: bytes) -> list[Observation]:
        """The facts in a callback. Raises BadCallbackSignature, MalformedCallback."""
        try:
            self._webhook.verify(raw_body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError, OverflowError) as wrong:
            # The library raises ValueError where a signature header is not of the form `v1,<base64>`.
            raise BadCallbackSignature(rail=self._id) from wrong
        try:
            body = wire.read_object(raw_body)
            event = wire.inner(body, "event")
            # The signed id must be the fact's own: otherwise one signed body could be replayed under many ids.
            delivered = {name.lower(): value for name, value in headers.items()}["webhook-id"]
            if delivered != wire.text(event, "id"):
                raise MalformedCallback(rail=self._id, reason="webhook-id is not the event's id")
            kind = wire.text(body, "type")
            if kind == "incoming.booked":
                return [wire.bank_receipt(self._id, wire.inner(body, "incoming"), event, raw_body)]
            if kind in _PAYMENT_EVENTS:
                return [wire.payment_observation(self._id, wire.inner(body, "payment"), event, raw_body)]
        except wire.Unreadable as wrong:
            raise MalformedCallback(rail=self._id, reason=str(wrong)) from wrong
        raise MalformedCallback(rail=self._id, reason="unknown type")

    async def statement(self, iban: str, first: date, last: date) -> BankStatement:
        """What the bank booked on our account on these days. Raises RailUnavailable."""
        asked = {"account": iban, "from": first.isoformat(), "to": last.isoformat()}
        try:
            answer = await self._call("GET", "/v1/statement", params=asked)
            if answer.status_code != 200 or len(answer.content) > _MAX_ANSWER_BYTES:
                raise RailUnavailable(rail=self._id, status=answer.status_code)
            found = wire.bank_statement(wire.read_object(answer.content))
        except _NoAnswer as trouble:
            raise RailUnavailable(rail=self._id, cause=str(trouble)) from trouble
        except wire.Unreadable as wrong:
            raise RailUnavailable(rail=self._id, cause=str(wrong)) from wrong
        if found.iban != iban:
            raise RailUnavailable(rail=self._id, cause="statement of another account")
        return found

    async def aclose(self) -> None:
        """Let the connections go."""
        await self._client.aclose()

    async def _call(self, method: str, path: str, **content: Any) -> httpx.Response:
        """One exchange within the time limit. Raises _NoAnswer with the kind of trouble."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._client.request(method, path, **content)
        except (httpx.HTTPError, TimeoutError) as trouble:
            raise _NoAnswer(type(trouble).__name__) from trouble


class _NoAnswer(Exception):
    """No answer came in time, or none that HTTP understands."""


def _read_submission(answer: httpx.Response, order: Mapping[str, str]) -> SubmissionReport:
    """What the bank's answer to an order means. Raises wire.Unreadable when it proves nothing."""
    body = wire.read_object(answer.content)
    if answer.status_code == 202 and wire.text(body, "status") == "accepted":
        external_ref = wire.text(body, "id")
        # Integrity: what the bank echoes must be what we asked, field by field.
        for name, asked in order.items():
            if wire.text(body, name) != asked:
                return Mismatched(field=name, external_ref=external_ref)
        return Accepted(external_ref=external_ref)
    if answer.status_code == 422 and wire.text(body, "status") == "refused":
        if wire.text(body, "end_to_end_id") != order["end_to_end_id"]:
            raise wire.Unreadable("a refusal of another reference")
        return Declined(code=wire.text(body, "code"))
    if answer.status_code in (400, 404) and body.get("code") in _FORM_ERRORS:
        return Declined(code=wire.text(body, "code"))
    if answer.status_code == 409:
        # Another order stands at the bank under our reference: nobody can say what will be paid.
        return Mismatched(field="reference_reused", external_ref="")
    return Lost(cause=f"status {answer.status_code}")


def _secret_bytes(secret: str) -> bytes:
    try:
        found = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as wrong:
        raise BadCallbackSecret("the callback secret is not base64") from wrong
    if not secret.startswith("whsec_") or len(found) < 24:
        raise BadCallbackSecret("the callback secret is not whsec_ and base64 of 24 bytes or more")
    return found
