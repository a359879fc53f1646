"""Endpoints that are called as they stand: who asks is told first, and what is wrong is worded by the framework as ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.plain import plain_call
from api.strict_json import StrictRoute


class Asked(BaseModel):
    """A body."""

    amount: int


class Known:
    """A dependency with two ways in, which says which one was taken."""

    async def __call__(self, request: Request, name: Annotated[str, Header(max_length=3)]) -> str:
        return await self._of(request, f"framework {name}")

    async def plainly(self, request: Request) -> str | None:
        name = request.headers.get("name", "")
        return await self._of(request, f"plain {name}") if 0 < len(name) <= 3 else None

    async def _of(self, request: Request, found: str) -> str:
        if "authorization" not in request.headers:
            raise HTTPException(401)
        return found


async def fits(body: Asked, request: Request, caller: Annotated[str, Depends(Known())]) -> Response:
    return Response(f"{request.method} {caller} {body.amount}")


async def takes_more(body: Asked, wallet: str, caller: Annotated[str, Depends(Known())]) -> Response:
    return Response(f"{wallet} {caller} {body.amount}")


async def answers_otherwise(body: Asked, caller: Annotated[str, Depends(Known())]) -> str:
    return f"{caller} {body.amount}"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    app, router = FastAPI(), APIRouter(route_class=StrictRoute)
    router.post("/fits", response_class=Response)(fits)
    app.include_router(router)

    @app.middleware("http")
    async def stated(request: Request, call_next):  # type: ignore[no-untyped-def]
        request.scope.setdefault("state", {})
        return await call_next(request)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def test_what_fits_is_called_as_it_stands(http: httpx.AsyncClient) -> None:
    answer = await http.post("/fits", json={"amount": 7}, headers={"authorization": "x", "name": "ann"})
    assert (answer.status_code, answer.text) == (200, "POST plain ann 7")


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({"amount": "many"}, {"authorization": "x", "name": "ann"}, 422),
        ([], {"authorization": "x", "name": "ann"}, 422),
        ({"amount": 7}, {"authorization": "x", "name": "annabel"}, 422),
        ({"amount": 7}, {"name": "ann"}, 401),
        ({"amount": "many"}, {"name": "ann"}, 401),
    ],
)
async def test_what_does_not_fit_is_refused_by_the_framework(
    http: httpx.AsyncClient, body: object, headers: dict[str, str], status: int
) -> None:
    assert (await http.post("/fits", json=body, headers=headers)).status_code == status


def test_only_what_is_as_simple_as_that_is_called_so() -> None:
    assert plain_call(fits) is not None
    assert plain_call(takes_more) is None
    assert plain_call(answers_otherwise) is None
