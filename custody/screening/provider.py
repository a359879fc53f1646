"""The outside screener over HTTP: our own reference is the idempotency key, and only its own words are taken for an answer.

One call asks and asks again: `POST {url}` with the question. Whoever serves it answers a known `Idempotency-Key` with how that
very screening stands, and never begins a second one. What a screener must serve is in docs/withdrawals.md.
"""

from __future__ import annotations

import httpx
import orjson
import structlog

from custody.screening.model import Answer, Finding, Question
from custody.screening_settings import ScreeningSettings

_ANSWER_MAX_BYTES = 65_536
_ANSWERED = frozenset({200, 201})
_WORDS = {"clear": Finding.CLEAR, "hit": Finding.HIT, "pending": Finding.UNKNOWN}

_log = structlog.get_logger(__name__)


class HttpScreener:
    """Asks one screener. A screening is named by our reference, whatever becomes of a call about it."""

    def __init__(self, name: str, *, url: str, token: str, timeout_s: float) -> None:
        """`token` goes along as a bearer token."""
        self._name = name
        self._url = url
        self._client = httpx.AsyncClient(
            timeout=timeout_s,
            trust_env=False,
            follow_redirects=False,
            headers={"Authorization": f"Bearer {token}"},
        )

    @property
    def name(self) -> str:
        """As configured."""
        return self._name

    async def screen(self, question: Question) -> Answer:
        """What it says, for the first time or again. Everything but its own clear word about this question is UNKNOWN."""
        reference = str(question.reference)
        body = {
            "reference": reference,
            "chain": question.chain,
            "address": question.account,
            "asset": question.asset.text,
            "amount": str(question.amount),
        }
        try:
            answer = await self._client.post(self._url, json=body, headers={"Idempotency-Key": reference})
        except httpx.HTTPError as trouble:
            return self._unknown(reference, type(trouble).__name__)
        if answer.status_code not in _ANSWERED:
            return self._unknown(reference, f"status {answer.status_code}")
        return self._read(question, answer.content)

    async def aclose(self) -> None:
        """Let its connections go."""
        await self._client.aclose()

    def _read(self, question: Question, raw: bytes) -> Answer:
        reference = str(question.reference)
        try:
            body = orjson.loads(raw) if len(raw) <= _ANSWER_MAX_BYTES else None
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            return self._unknown(reference, "unreadable answer")
        if (body.get("reference"), body.get("address")) != (reference, question.account):
            return self._unknown(reference, "answer about something else")
        finding = _WORDS.get(str(body.get("finding")))
        if finding is None:
            return self._unknown(reference, "unreadable answer")
        detail = body.get("detail")
        return Answer(
            finding=finding,
            detail=detail if isinstance(detail, str) else "pending" if finding is Finding.UNKNOWN else "",
        )

    def _unknown(self, reference: str, why: str) -> Answer:
        _log.warning("screening.unknown", screener=self._name, reference=reference, reason=why)
        return Answer(finding=Finding.UNKNOWN, detail=why)


def build_screener(chosen: ScreeningSettings) -> HttpScreener:
    """The screener that is configured."""
    return HttpScreener(
        chosen.name, url=chosen.url, token=chosen.token.get_secret_value(), timeout_s=chosen.timeout_s
    )
