"""A provider of an EVM chain: passes every call on to a real node, over real HTTP, and can be away, or lie about an answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.fakes.rpc_node import Answer, RpcNode, run_node

Lie = Callable[[Any, Any], Any]
"""From the parameters and the true result to what is said."""


def is_tag(params: Any) -> bool:
    """Whether the finality of blocks is asked for."""
    return params[0] in ("safe", "finalized")


class _PassedOn(dict[str, Answer]):
    """Methods without an answer of their own are answered by the node behind."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._http = httpx.Client(trust_env=False, timeout=20)

    def __missing__(self, method: str) -> Answer:
        return lambda params: self.ask(method, params)

    def ask(self, method: str, params: Any) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = self._http.post(self._url, json=body).json()
        return {name: answer[name] for name in ("result", "error") if name in answer}

    def close(self) -> None:
        self._http.close()


class EvmProvider:
    """The provider, and how it errs."""

    def __init__(self, node: RpcNode, behind: _PassedOn) -> None:
        self.node = node
        self._behind = behind

    @property
    def url(self) -> str:
        return self.node.url

    @property
    def name(self) -> str:
        """As metrics and errors name it."""
        return self.url.removeprefix("http://")

    def lie(self, method: str, lie: Lie) -> None:
        """Say something else about this method's results."""

        def answer(params: Any) -> dict[str, Any]:
            told = self._behind.ask(method, params)
            return {"result": lie(params, told["result"])} if "result" in told else told

        self.node.answers[method] = answer

    def tag(self, height: int) -> None:
        """Say that the tags name this block."""
        self.node.answers["eth_getBlockByNumber"] = lambda params: self._behind.ask(
            "eth_getBlockByNumber", [hex(height), params[1]] if is_tag(params) else params
        )

    def lack(self, method: str) -> None:
        """Do not offer this method."""
        self.node.error(method, f"the method {method} does not exist/is not available", -32601)

    def be_honest(self) -> None:
        self.node.answers.clear()
        self.node.raw = None

    def go_away(self) -> None:
        self.node.raw = b""


@asynccontextmanager
async def run_evm_provider(behind: str) -> AsyncIterator[EvmProvider]:
    """A provider that listens, in front of the node at this address."""
    async with run_node() as node:
        passed_on = _PassedOn(behind)
        node.answers = passed_on
        try:
            yield EvmProvider(node, passed_on)
        finally:
            passed_on.close()
