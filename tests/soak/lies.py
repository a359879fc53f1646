"""What a node may say that is not so. Each lie is one that nothing but our own care finds out.

Not lied about: balances and traces of an EVM node, which nothing proves (docs/evm-blocks.md says so).
"""

from __future__ import annotations

import base64
import random
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from tests.fakes.lying_proxy import LIES as BLOCK_LIES

Call = dict[str, Any]
Ask = Callable[[Call], Awaitable[Call]]
STALE_MAX = 6
"""How many blocks too old the newest may be said to be."""
BAD_SEQUENCE = "AAAAAAAAAAD////7AAAAAA=="
"""TransactionResult of txBAD_SEQ, base64."""


class Lies(Protocol):
    """Those of one kind of node."""

    async def tell(self, chance: random.Random, call: Call, ask: Ask) -> tuple[str, Call | None]:
        """The lie's name and what is said instead; None to hang up. `ask` has the node answer a call."""


class StellarLies:
    """Of Stellar RPC."""

    async def tell(self, chance: random.Random, call: Call, ask: Ask) -> tuple[str, Call | None]:
        method = call["method"]
        if method == "sendTransaction":
            return await self._sending(chance, call, ask)
        answer = await ask(call)
        result = answer.get("result")
        if not result:
            return "nothing", answer
        if method in ("getHealth", "getLatestLedger"):
            name = "latestLedger" if method == "getHealth" else "sequence"
            result[name] = max(1, result[name] - chance.randint(1, STALE_MAX))
            return "stale ledger", answer
        if method == "getLedgers" and result["ledgers"]:
            return _ledgers(chance, result), answer
        if method == "getLedgerEntries" and result["entries"]:
            result["entries"].pop(chance.randrange(len(result["entries"])))
            return "missing entry", answer
        if method == "getFeeStats":
            for row in ("max", "p50", "p90", "p95", "p99"):
                result["inclusionFee"][row] = str(chance.choice((0, 50_000_000)))
            return "wrong fees", answer
        return "silence", None

    async def _sending(self, chance: random.Random, call: Call, ask: Ask) -> tuple[str, Call | None]:
        lie = chance.choice(("swallowed", "kept and silent", "kept and denied", "kept and put off"))
        if lie == "swallowed":
            # The answer of a question that changes nothing, in the form of one that does.
            known = await ask(call | {"method": "getHealth", "params": {}})
            said = {"status": "PENDING", "hash": "00" * 32, "latestLedger": known["result"]["latestLedger"]}
            return lie, known | {"result": said | {"latestLedgerCloseTime": "0"}}
        answer = await ask(call)
        if lie == "kept and silent" or "result" not in answer:
            return lie, None
        if lie == "kept and denied":
            answer["result"] |= {"status": "ERROR", "errorResultXdr": BAD_SEQUENCE}
        else:
            answer["result"]["status"] = "TRY_AGAIN_LATER"
        return lie, answer


def _ledgers(chance: random.Random, result: Call) -> str:
    row = chance.choice(result["ledgers"])
    match chance.choice(("another byte", "another hash", "missing ledger", "no XDR")):
        case "another byte" as lie:
            data = bytearray(base64.b64decode(row["metadataXdr"]))
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            row["metadataXdr"] = base64.b64encode(bytes(data)).decode()
        case "another hash" as lie:
            row["hash"] = chance.randbytes(32).hex()
        case "missing ledger" as lie:
            result["ledgers"].remove(row)
        case lie:
            row["metadataXdr"] = "AAAA"
    return lie


class EvmLies:
    """Of Ethereum JSON-RPC."""

    async def tell(self, chance: random.Random, call: Call, ask: Ask) -> tuple[str, Call | None]:
        method = call["method"]
        if method == "eth_sendRawTransaction":
            return await self._sending(chance, call, ask)
        answer = await ask(call)
        result = answer.get("result")
        if result is None:
            return "nothing", answer
        if method == "eth_getTransactionCount":
            answer["result"] = hex(max(0, int(result, 16) + chance.choice((-2, -1, 1, 3))))
            return "wrong nonce", answer
        if method == "eth_feeHistory":
            result["baseFeePerGas"] = [
                hex(int(each, 16) * chance.choice((1, 40))) for each in result["baseFeePerGas"]
            ]
            return "wrong price", answer
        if method == "eth_getBlockByNumber" and call["params"] == ["latest", False]:
            height = max(0, int(result["number"], 16) - chance.randint(1, STALE_MAX))
            return "stale head", await ask(call | {"params": [hex(height), False]})
        lies = BLOCK_LIES.get(method, [])
        if lies:
            name, lie = chance.choice(lies)
            return (name if lie(chance, result) else "nothing"), answer
        return "silence", None

    async def _sending(self, chance: random.Random, call: Call, ask: Ask) -> tuple[str, Call | None]:
        lie = chance.choice(("swallowed", "kept and silent", "kept and denied", "kept and undercut"))
        if lie == "swallowed":
            known = await ask(call | {"method": "eth_chainId", "params": []})
            return lie, known | {"result": "0x" + "00" * 32}
        answer = await ask(call)
        if lie == "kept and silent":
            return lie, None
        answer.pop("result", None)
        words = "nonce too low" if lie == "kept and denied" else "replacement transaction underpriced"
        answer["error"] = {"code": -32000, "message": words}
        return lie, answer
