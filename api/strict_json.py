"""JSON as the API reads it: one object, UTF-8, every key once, no number that Python would read and others would not.

A repeated key lets two readers of one body see two requests (which amount did the fingerprint cover?), so that it is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine
from hashlib import sha256
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from api.errors import DuplicateKey, MalformedBody, UnsupportedMediaType
from api.plain import plain_call
from custody.kernel.jsontext import nests_too_deeply

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def parse(raw: bytes) -> Any:
    """The JSON value of a body. Raises MalformedBody, DuplicateKey."""
    try:
        text = raw.decode("utf-8")
        if nests_too_deeply(text):
            raise MalformedBody("The body is nested too deeply.")
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
        if "\\u" in text:
            _refuse_unstorable(found)  # neither may stand there by itself: not in JSON, and not in UTF-8
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise MalformedBody from error
    except ValueError as error:
        # Python refuses integers of more than 4300 digits.
        raise MalformedBody("A number in the body is too long.") from error
    return found


def canonical(value: Any) -> bytes:
    """One spelling for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def fingerprint(method: str, path: str, value: Any) -> bytes:
    """What a repeated command must match: method, path and canonical body."""
    return sha256(b"\n".join((method.encode(), path.encode(), canonical(value)))).digest()


class StrictRequest(Request):
    """A request whose JSON is read strictly."""

    async def json(self) -> Any:
        """The body's value, read once. Raises MalformedBody, DuplicateKey."""
        known = self.scope["state"]
        if "json" not in known:
            known["json"] = parse(await self.body())
        return known["json"]


class StrictRoute(APIRoute):
    """A route whose body is strict JSON or nothing."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler, or a plain call, given a strict request."""
        inner = super().get_route_handler()
        takes_json = self.body_field is not None
        plain = plain_call(self.endpoint) if takes_json else None

        async def handler(request: Request) -> Response:
            strict = StrictRequest(request.scope, request.receive)
            if takes_json and await strict.body():
                declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if declared != "application/json":
                    raise UnsupportedMediaType(content_type=declared[:64])
                # The framework would turn our errors into its own: read once here, so that they come through as they are.
                await strict.json()
                answer = None if plain is None else await plain.answer(strict)
                if answer is not None:
                    return answer
            return await inner(strict)

        return handler


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DuplicateKey
    return found


def _refuse_constant(text: str) -> Any:
    raise MalformedBody("NaN and Infinity are not JSON.", found=text)


def _refuse_unstorable(value: Any) -> None:
    """Text with a NUL or half a surrogate pair is JSON, but no database and no other UTF-8 reader takes it."""
    match value:
        case str():
            if _UNSTORABLE.search(value):
                raise MalformedBody("A text in the body holds a character that cannot be stored.")
        case list():
            for each in value:
                _refuse_unstorable(each)
        case dict():
            for name, each in value.items():
                _refuse_unstorable(name)
                _refuse_unstorable(each)
