"""How the people of the demo speak to the API: as any custody app would, over HTTP, with keys and patience.

Every command carries an idempotency key and is repeated under the same key when no answer came, so that a killed process on the
other side never makes anything happen twice.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx

Json = dict[str, Any]
_T = TypeVar("_T")

PATIENCE_S = 120.0
"""How long a person of the demo waits for anything before calling it broken."""


class StoryError(Exception):
    """The demo did not go as it must; the text says where."""


class ApiRefused(StoryError):
    """The API answered with a problem."""

    def __init__(self, status: int, problem: Json) -> None:
        """`problem` is the RFC 9457 body."""
        super().__init__(f"{status} {problem.get('code')}: {problem.get('detail') or problem.get('title')}")
        self.status = status
        self.code = str(problem.get("code"))
        self.problem = problem


class Api:
    """One principal's view of the API."""

    def __init__(self, base_url: str, token: str) -> None:
        """`token` is an API key's secret."""
        self._http = httpx.AsyncClient(
            base_url=base_url,
            timeout=20.0,
            trust_env=False,
            headers={"Authorization": f"Bearer {token}"},
        )

    async def aclose(self) -> None:
        """Let the connections go."""
        await self._http.aclose()

    async def get(self, path: str, **query: str | int) -> Json:
        """Read something. Raises ApiRefused."""
        return await self._until_answered("GET", path, params=query)

    async def post(self, path: str, body: Json | None = None, *, key: str | None = None) -> Json:
        """Do something once, whatever happens to the connection. Raises ApiRefused."""
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        return await self._until_answered("POST", path, json=body or {}, headers=headers)

    async def graphql(self, query: str, **variables: object) -> Json:
        """Ask GraphQL. Raises StoryError when the answer carries errors."""
        answer = await self._until_answered("POST", "/graphql", json={"query": query, "variables": variables})
        if answer.get("errors"):
            raise StoryError(f"GraphQL: {answer['errors']}")
        data: Json = answer["data"]
        return data

    async def _until_answered(self, method: str, path: str, **options: Any) -> Json:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                response = await self._http.request(method, path, **options)
            except httpx.TransportError as error:
                reason: Exception = error
            else:
                if response.status_code < 400:
                    answer: Json = response.json()
                    return answer
                refused = ApiRefused(response.status_code, _problem(response))
                if (
                    response.status_code not in {500, 502, 503}
                    and refused.code != "idempotency_key_in_progress"
                ):
                    raise refused
                reason = refused
            if time.monotonic() > deadline:
                raise StoryError(f"{method} {path} got no answer in {PATIENCE_S:.0f} s: {reason}") from reason
            await asyncio.sleep(0.3)


async def until(
    what: str, ask: Callable[[], Awaitable[_T]], wanted: Callable[[_T], bool], patience_s: float = PATIENCE_S
) -> _T:
    """Ask again until the answer is the wanted one. Raises StoryError with the last answer."""
    deadline = time.monotonic() + patience_s
    while True:
        answer = await ask()
        if wanted(answer):
            return answer
        if time.monotonic() > deadline:
            raise StoryError(f"waited {patience_s:.0f} s for {what}; the last answer was {answer}")
        await asyncio.sleep(0.25)


def _problem(response: httpx.Response) -> Json:
    try:
        body = response.json()
    except ValueError:
        return {"code": "not_json", "title": response.text[:200]}
    return body if isinstance(body, dict) else {"code": "not_an_object"}
