"""A provider of a local Stellar network, over real HTTP, that can be behind, away, slow, or tell something else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from devnet.stellar.misbehave import with_wrong_parent
from devnet.stellar.network import LocalNetwork
from devnet.stellar.rpc import RpcError, RpcMethods
from devnet.stellar.store import LedgerRecord
from tests.fakes.rpc_node import RpcNode, run_node

METHODS = ("getHealth", "getNetwork", "getLatestLedger", "getLedgers")


class View:
    """A network as one of its providers sees it: the newest ledgers may be missing, one may be another."""

    def __init__(self, network: LocalNetwork) -> None:
        self._network = network
        self.behind = 0
        self.forged_at = 0
        self.unreadable = False
        self.passphrase = network.passphrase
        self.misbehaviour = network.misbehaviour

    @property
    def latest(self) -> LedgerRecord:
        top = self._network.latest.sequence - self.behind
        return self._seen(self._network.ledgers(top, 1)[0])

    @property
    def oldest(self) -> LedgerRecord:
        return self._network.oldest

    def ledgers(self, start: int, count: int) -> list[LedgerRecord]:
        top = self._network.latest.sequence - self.behind
        found = self._network.ledgers(start, min(count, top - start + 1))
        return [self._seen(each) for each in found]

    def _seen(self, record: LedgerRecord) -> LedgerRecord:
        if record.sequence == self.forged_at:
            record = with_wrong_parent(record)
        return replace(record, meta=record.meta[:-1]) if self.unreadable else record


class LedgerProvider:
    """The node, and what it sees."""

    def __init__(self, node: RpcNode, network: LocalNetwork) -> None:
        self.node = node
        self.view = View(network)
        methods = RpcMethods(self.view, "")  # type: ignore[arg-type]  # as much of a network as the methods here need
        for name in METHODS:
            node.answers[name] = _answer(methods, name)

    @property
    def url(self) -> str:
        return self.node.url

    @property
    def name(self) -> str:
        """As metrics and errors name it."""
        return self.url.removeprefix("http://")

    def go_away(self) -> None:
        self.node.raw = b""

    def come_back(self) -> None:
        self.node.raw = None

    def claim(self, height: int) -> None:
        """Say that the newest ledger is this one."""
        self.node.result("getLatestLedger", {"id": "ab" * 32, "sequence": height})


@asynccontextmanager
async def run_provider(network: LocalNetwork) -> AsyncIterator[LedgerProvider]:
    """A provider that listens."""
    async with run_node() as node:
        yield LedgerProvider(node, network)


def metas_of(network: LocalNetwork) -> list[bytes]:
    """Every ledger that was closed, from the first on."""
    return [each.meta for each in network.ledgers(network.oldest.sequence, network.latest.sequence)]


def _answer(methods: RpcMethods, name: str) -> Callable[[Any], dict[str, Any]]:
    def answer(params: Any) -> dict[str, Any]:
        try:
            return {"result": methods.call(name, params or {})}
        except RpcError as error:
            return {"error": {"code": error.code, "message": error.message}}

    return answer
