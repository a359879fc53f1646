"""Calls a function that takes no more than a body and who sends it, without the framework's search for what it takes.

The framework finds out for every request what a function wants and solves it step by step, which costs as much as most functions
do. Where a function takes one body, at most the request, and one dependency that can be asked for itself, and answers with a
response, it is called as it stands. Whatever is not as it should be goes the framework's way, so that refusals are worded and
ordered as ever: who asks is told before what is wrong with the body.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints, runtime_checkable

from fastapi import Request
from fastapi.params import Depends
from pydantic import BaseModel, ValidationError
from starlette.responses import Response


@runtime_checkable
class Plain(Protocol):
    """A dependency that needs nothing but the request."""

    async def plainly(self, request: Request) -> object | None:
        """What it gives; None where only the framework can say what is wrong. Raises as it does otherwise."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainCall:
    """How one function is called."""

    function: Callable[..., Awaitable[Response]]
    body_name: str
    body: type[BaseModel]
    request_name: str | None
    dependency_name: str
    dependency: Plain

    async def answer(self, request: Request) -> Response | None:
        """The function's answer; None where only the framework can say what is wrong, before anything was done."""
        try:
            body = self.body.model_validate(await request.json())
        except ValidationError:
            return None
        given = await self.dependency.plainly(request)
        if given is None:
            return None
        arguments = {self.body_name: body, self.dependency_name: given}
        if self.request_name is not None:
            arguments[self.request_name] = request
        return await self.function(**arguments)


def plain_call(function: Callable[..., Any]) -> PlainCall | None:
    """How this function is called, if it is as simple as that."""
    wanted = get_type_hints(function, include_extras=True)
    if wanted.pop("return", None) is not Response:
        return None
    bodies = {
        name: kind for name, kind in wanted.items() if isinstance(kind, type) and issubclass(kind, BaseModel)
    }
    requests = [name for name, kind in wanted.items() if kind is Request]
    asked = {name: found for name, kind in wanted.items() if (found := _dependency(kind)) is not None}
    if (len(bodies), len(asked)) != (1, 1) or len(requests) > 1 or len(wanted) != len(requests) + 2:
        return None
    ((body_name, body),) = bodies.items()
    ((dependency_name, dependency),) = asked.items()
    return PlainCall(
        function=function,
        body_name=body_name,
        body=body,
        request_name=requests[0] if requests else None,
        dependency_name=dependency_name,
        dependency=dependency,
    )


def _dependency(kind: object) -> Plain | None:
    if get_origin(kind) is not Annotated:
        return None
    for note in get_args(kind)[1:]:
        asked: object = note.dependency if isinstance(note, Depends) else None
        if isinstance(asked, Plain):
            return asked
    return None
