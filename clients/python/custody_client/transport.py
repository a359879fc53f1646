"""How requests go out: a key for every command, retries only where repeating cannot do anything twice, problems as exceptions."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import quote
from uuid import uuid4

import httpx

ATTEMPTS = 5
"""How often a call is made at most."""
_AGAIN = frozenset({429, 502, 503, 504})
"""Answers after which the same call may be made again: nothing was done, or the same key finds out what was."""
_IN_PROGRESS = "idempotency_key_in_progress"

T = TypeVar("T")


class ApiError(Exception):
    """A problem that the API told. Branch on `code`."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        """`body` is the problem document; empty when a proxy on the way answered instead of the API."""
        super().__init__(f"{status} {body.get('code', '')}: {body.get('detail', '')}")
        self.status = status
        self.code = str(body.get("code", ""))
        self.title = str(body.get("title", ""))
        self.detail = str(body.get("detail", ""))
        self.retryable = bool(body.get("retryable", False))
        self.errors: list[dict[str, str]] = list(body.get("errors", ()))
        self.trace_id = str(body.get("trace_id", ""))
        found = body.get("confirm_url")
        self.confirm_url: str | None = None if found is None else str(found)
        """With `step_up_required`: where a person confirms the command. Then repeat it with the same key."""


class NotReached(Exception):
    """No answer came, after every attempt. Of a command it is not known whether it was carried out: repeat it with `key`."""

    def __init__(self, key: str | None) -> None:
        """`key` is the command's idempotency key; None for a read."""
        super().__init__(f"no answer (idempotency key {key})")
        self.key = key


class Transport:
    """One connection pool, one API key."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        version: str,
        timeout_s: float = 30.0,
        http: httpx.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`http` replaces the pool, for proxies and tests; `base_url` is then its own business."""
        self._http = http or httpx.Client(base_url=base_url, timeout=timeout_s)
        self._headers = {"Authorization": f"Bearer {api_key}", "Custody-Version": version}
        self._sleep = sleep

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        command: bool = False,
        idempotency_key: str | None = None,
    ) -> Any:
        """The answer's body. A command without a key gets one, and every attempt carries the same. Raises ApiError,
        NotReached."""
        headers = dict(self._headers)
        key = idempotency_key or (uuid4().hex if command else None)
        if key is not None:
            headers["Idempotency-Key"] = key
        shown = {name: value for name, value in (query or {}).items() if value is not None}
        content = None if body is None else to_json(body)
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            try:
                answer = self._http.request(method, path, params=shown, json=content, headers=headers)
            except httpx.TransportError as error:
                if last:
                    raise NotReached(key) from error
                self._sleep(_pause_s(attempt, None))
                continue
            if answer.status_code < 400:
                return answer.json() if answer.content else None
            problem = ApiError(answer.status_code, _problem(answer))
            if last or not (answer.status_code in _AGAIN or problem.code == _IN_PROGRESS):
                raise problem
            self._sleep(_pause_s(attempt, answer.headers.get("retry-after")))
        raise NotReached(key)


def _problem(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _pause_s(attempt: int, told: str | None) -> float:
    """What the API asked for, else longer each time and never the same for two clients."""
    if told is not None and told.isdigit():
        return min(60.0, float(told))
    spread: float = random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients, protects nothing
    return spread * min(8.0, 0.25 * float(2**attempt))


def segment(text: str) -> str:
    """A value as one segment of a path, whatever stands in it."""
    return quote(text, safe="")


def to_json(value: object) -> Any:
    """A request's body. Fields that are None are left out: absent and null mean the same in requests."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {name: to_json(inner) for name, inner in pairs if inner is not None}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    return value


def parse(kind: type[T], data: Any) -> T:
    """A body as its class. Fields that the class does not know are passed over: the API may have grown."""
    hints = get_type_hints(kind)
    known = {
        field.name: _convert(hints[field.name], data[field.name])
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]  # every class of `models` is one
        if field.name in data
    }
    return kind(**known)


def _convert(kind: Any, data: Any) -> Any:
    if data is None:
        return None
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _convert(next(each for each in get_args(kind) if each is not NoneType), data)
    if origin is list:
        return [_convert(get_args(kind)[0], each) for each in data]
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return parse(kind, data)
    return data


class Page(Protocol[T]):
    """One page of a list."""

    @property
    def data(self) -> list[T]:
        """Its rows."""
        ...

    @property
    def next_cursor(self) -> str | None:
        """Where the next one begins; None at the end."""
        ...


def each(list_page: Callable[..., Page[T]], *arguments: Any, **filters: Any) -> Iterator[T]:
    """All rows of a list, page after page: `each(client.list_transfers, limit=100)`."""
    cursor: str | None = None
    while True:
        page = list_page(*arguments, cursor=cursor, **filters)
        yield from page.data
        cursor = page.next_cursor
        if cursor is None:
            return
