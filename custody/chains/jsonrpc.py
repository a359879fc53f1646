"""JSON-RPC 2.0 over HTTP, with every failure typed.

Both kinds of node speak it. A timeout bounds every call; the caller decides what an unanswered call means.
Source: JSON-RPC 2.0 specification, s.4 and 5.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import httpx
import orjson

from custody.chains.errors import NotConnected, RpcRefused, RpcUnreachable, RpcUnreadable

RPC_TIMEOUT_S = 20.0
"""No call to a node waits longer. A page of ledgers is the slowest."""
MAX_BODY_BYTES = 256 * 1024 * 1024
"""A longer answer is refused before it is parsed."""


class JsonRpc:
    """One node. Safe for concurrent calls within one event loop."""

    def __init__(self, url: str, *, timeout_s: float = RPC_TIMEOUT_S) -> None:
        """`url` is http(s); proxies of the environment are not used, a node is named on purpose."""
        self._url = url
        self._ids = itertools.count(1)
        self._http = httpx.AsyncClient(
            timeout=timeout_s, trust_env=False, headers={"content-type": "application/json"}
        )

    async def call(self, method: str, params: Any) -> Any:
        """The `result` of one call. Raises RpcUnreachable, RpcRefused, RpcUnreadable."""
        request_id = next(self._ids)
        body = await self._post(
            method, {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        )
        return _result(method, body, request_id)

    async def call_all(self, calls: Sequence[tuple[str, Any]]) -> list[Any]:
        """The results of several calls in one request, in the order asked. Raises as `call`, for the first that failed."""
        answers = await self.call_each(calls)
        for answer in answers:
            if isinstance(answer, RpcRefused):
                raise answer
        return answers

    async def call_each(self, calls: Sequence[tuple[str, Any]]) -> list[Any]:
        """As `call_all`, but what the node refused stands in the list as its RpcRefused."""
        if not calls:
            return []
        first = next(self._ids)
        ids = [first, *(next(self._ids) for _ in calls[1:])]
        batch = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in zip(ids, calls, strict=True)
        ]
        method = calls[0][0]
        body = await self._post(method, batch)
        if not isinstance(body, list) or len(body) != len(calls):
            raise RpcUnreadable(method=method, reason="a batch was not answered by as many answers")
        answers = {answer.get("id"): answer for answer in body if isinstance(answer, dict)}
        return [
            _outcome(name, answers.get(number), number) for number, (name, _) in zip(ids, calls, strict=True)
        ]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _post(self, method: str, body: Any) -> Any:
        try:
            response = await self._http.post(self._url, content=orjson.dumps(body))
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise NotConnected(method=method, reason=type(error).__name__) from error
        except httpx.HTTPError as error:
            raise RpcUnreachable(method=method, reason=type(error).__name__) from error
        if len(response.content) > MAX_BODY_BYTES:
            raise RpcUnreadable(method=method, reason="the answer is too long")
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise RpcUnreachable(method=method, reason=f"HTTP {response.status_code} without JSON") from error


def _outcome(method: str, answer: Any, request_id: int) -> Any:
    try:
        return _result(method, answer, request_id)
    except RpcRefused as error:
        return error


def _result(method: str, answer: Any, request_id: int) -> Any:
    if not isinstance(answer, dict) or answer.get("id") not in (request_id, None):
        raise RpcUnreadable(method=method, reason="not a JSON-RPC answer to this request")
    error = answer.get("error")
    if error is not None:
        if not isinstance(error, dict):
            raise RpcUnreadable(method=method, reason="an error without code")
        code = error.get("code")
        raise RpcRefused(
            method=method,
            rpc_code=code if isinstance(code, int) else 0,
            rpc_message=str(error.get("message", ""))[:500],
        )
    if "result" not in answer:
        raise RpcUnreadable(method=method, reason="neither result nor error")
    return answer["result"]


def require_str(method: str, value: Any) -> str:
    """The value as text. Raises RpcUnreadable when the node sent something else."""
    if not isinstance(value, str):
        raise RpcUnreadable(method=method, reason="expected a string")
    return value


def require_int(method: str, value: Any) -> int:
    """The value as an integer. Raises RpcUnreadable when the node sent something else (a bool and a float too)."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise RpcUnreadable(method=method, reason="expected an integer")
    return value


def require_dict(method: str, value: Any) -> dict[str, Any]:
    """The value as an object. Raises RpcUnreadable when the node sent something else."""
    if not isinstance(value, dict):
        raise RpcUnreadable(method=method, reason="expected an object")
    return value


def require_list(method: str, value: Any) -> list[Any]:
    """The value as a list. Raises RpcUnreadable when the node sent something else."""
    if not isinstance(value, list):
        raise RpcUnreadable(method=method, reason="expected a list")
    return value
