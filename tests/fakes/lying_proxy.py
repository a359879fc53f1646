"""A provider that lies: it stands before a real node, over real HTTP, and alters some of what that says.

It lies about everything that a block's hash holds, about the logs' names that it does not hold, about the newest block, and by
saying nothing. It does not lie about traces and balances: nothing proves those, and docs/evm-blocks.md says so.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

Lie = Callable[[random.Random, Any], bool]
"""Alters an answer in place; False where there is nothing to alter."""
OTHER = "0x" + "5e" * 20
STALE_MAX = 6
"""How many blocks too old the newest may be said to be."""


class LyingProxy:
    """Lies to a share of the questions; honest as long as that is zero."""

    def __init__(self, node: str, chance: random.Random) -> None:
        """`chance` decides when and how."""
        self._node = node
        self._chance = chance
        self.url = ""
        self.share = 0.0
        self.only: frozenset[str] | None = None
        """The lies that are told; None for all."""
        self.told: Counter[str] = Counter()
        self._http = httpx.AsyncClient(timeout=20, trust_env=False)

    async def answer(self, body: bytes) -> bytes | None:
        """What is said to a request; None to hang up."""
        asked = json.loads(body)
        if self._tells("silence", self.share / 4):
            return None
        if self._tells("no JSON", self.share / 8):
            return b"bad gateway"
        said = (await self._http.post(self._node, content=body, headers=_JSON)).json()
        calls, answers = (asked, said) if isinstance(asked, list) else ([asked], [said])
        by_id = {each["id"]: each for each in answers}
        for call in calls:
            await self._distort(call, by_id[call["id"]])
        return json.dumps(said).encode()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _distort(self, call: dict[str, Any], answer: dict[str, Any]) -> None:
        result = answer.get("result")
        if call["method"] == "eth_getBlockByNumber" and call["params"] == ["latest", False] and result:
            if self._tells("stale head", self.share):
                answer["result"] = await self._older(result)
            return
        if call["method"] in ("eth_getBalance", "eth_call") and self._tells("no state", self.share / 4):
            answer.pop("result", None)
            answer["error"] = {"code": -32000, "message": "header not found"}
            return
        lies = [each for each in LIES.get(call["method"], []) if self.only is None or each[0] in self.only]
        # A block without transactions is not worth a lie: nothing hangs on it.
        if not lies or not result or self._chance.random() >= self.share:
            return
        name, lie = self._chance.choice(lies)
        if lie(self._chance, result):
            self.told[name] += 1

    async def _older(self, head: dict[str, Any]) -> Any:
        height = max(0, int(head["number"], 16) - self._chance.randrange(1, STALE_MAX + 1))
        body = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": [hex(height), False]}
        return (await self._http.post(self._node, json=body)).json()["result"]

    def _tells(self, name: str, share: float) -> bool:
        if self._chance.random() >= share or (self.only is not None and name not in self.only):
            return False
        self.told[name] += 1
        return True


_JSON = {"content-type": "application/json"}


@asynccontextmanager
async def run_proxy(node: str, chance: random.Random) -> AsyncIterator[LyingProxy]:
    """A proxy that listens, honest at first."""
    proxy = LyingProxy(node, chance)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
                answer = await proxy.answer(await reader.readexactly(length))
                if answer is None:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, httpx.HTTPError):
            # Either side went away: the other sees the same.
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.aclose()


def _paying(chance: random.Random, block: Any) -> Any:
    """One of the transactions that move ether; None for none."""
    found = [each for each in block["transactions"] if isinstance(each, dict) and each["value"] != "0x0"]
    return chance.choice(found) if found else None


def more_value(chance: random.Random, block: Any) -> bool:
    """Somebody was paid more."""
    tx = _paying(chance, block)
    if tx is not None:
        tx["value"] = hex(int(tx["value"], 16) + 1)
    return tx is not None


def another_receiver(chance: random.Random, block: Any) -> bool:
    """Somebody else was paid."""
    tx = _paying(chance, block)
    if tx is not None:
        tx["to"] = OTHER
    return tx is not None


def no_transaction(chance: random.Random, block: Any) -> bool:
    """One transaction less."""
    if not block["transactions"]:
        return False
    block["transactions"].pop(chance.randrange(len(block["transactions"])))
    return True


def another_name(chance: random.Random, block: Any) -> bool:
    """A payment under another hash: it would be another deposit."""
    tx = _paying(chance, block)
    if tx is not None:
        tx["hash"] = "0x" + chance.randbytes(32).hex()
    return tx is not None


def another_time(_chance: random.Random, block: Any) -> bool:
    """A header that is not the hash's."""
    block["timestamp"] = hex(int(block["timestamp"], 16) + 1)
    return True


def _logged(chance: random.Random, receipts: Any) -> Any:
    """One of the receipts that have logs; None for none."""
    found = [each for each in receipts if each["logs"]]
    return chance.choice(found) if found else None


def no_log(chance: random.Random, receipts: Any) -> bool:
    """One log less."""
    receipt = _logged(chance, receipts)
    if receipt is not None:
        receipt["logs"].pop()
    return receipt is not None


def no_log_nor_bloom(chance: random.Random, receipts: Any) -> bool:
    """No log, and a filter that knows of none."""
    receipt = _logged(chance, receipts)
    if receipt is not None:
        receipt.update(logs=[], logsBloom="0x" + "00" * 256)
    return receipt is not None


def more_tokens(chance: random.Random, receipts: Any) -> bool:
    """A larger amount in a log."""
    receipt = _logged(chance, receipts)
    if receipt is not None:
        log = receipt["logs"][0]
        log["data"] = f"0x{int(log['data'], 16) + 1:064x}"
    return receipt is not None


def log_of_another(chance: random.Random, receipts: Any) -> bool:
    """A log that names another transaction: whose receipt would be looked into."""
    receipt = _logged(chance, receipts)
    if receipt is not None:
        receipt["logs"][0]["transactionHash"] = "0x" + chance.randbytes(32).hex()
    return receipt is not None


def loud_topic(chance: random.Random, receipts: Any) -> bool:
    """The same topic in capitals: the same bytes, and no Transfer to who compares text."""
    receipt = _logged(chance, receipts)
    if receipt is not None:
        topics = receipt["logs"][0]["topics"]
        topics[0] = "0x" + topics[0][2:].upper()
    return receipt is not None


def failed(chance: random.Random, receipts: Any) -> bool:
    """A transaction that succeeded is said to have failed."""
    if not receipts:
        return False
    chance.choice(receipts)["status"] = "0x0"
    return True


def no_receipt(chance: random.Random, receipts: Any) -> bool:
    """One receipt less."""
    if not receipts:
        return False
    receipts.pop(chance.randrange(len(receipts)))
    return True


def _named(*lies: Lie) -> list[tuple[str, Lie]]:
    return [(lie.__name__, lie) for lie in lies]


LIES: dict[str, list[tuple[str, Lie]]] = {
    "eth_getBlockByNumber": _named(more_value, another_receiver, no_transaction, another_name, another_time),
    "eth_getBlockReceipts": _named(
        no_log, no_log_nor_bloom, more_tokens, log_of_another, loud_topic, failed, no_receipt
    ),
}
