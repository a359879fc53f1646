"""A JSON-RPC server that answers with blocks recorded from a real node, at next to no cost, for as many heights as are wanted.

Beyond what was recorded the blocks come again as others: number, parent and time are new, and each payment to an account of
ours has another signature, so another name; hashes and roots are computed anew, and balances follow the payments. All else is as
it was. A process of its own: `python -m bench.evm_replay FILE` prints its port and ends with its input.
"""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.evm_chain import OURS, Recorded
from custody.chains.evm.address import keccak256
from custody.chains.jsonrpc import JsonRpc
from devnet.anvil import CHAIN_ID
from ingestion.evm.encoding import encode_transaction, header_hash
from ingestion.evm.inner import DEBUG, TRACER
from ingestion.evm.normalize import token_transfers
from ingestion.evm.trie import ordered_root

FIRST = 1_000_000
"""Height of the first replayed block: no recorded number is as long."""
_BALANCE_OF = "0x70a08231"


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One recorded block, as the node wrote it, and what has to be changed in it."""

    block: dict[str, Any]
    texts: tuple[bytes, bytes, bytes]
    """The block, its receipts, its traces."""
    encoded: list[bytes]
    """Its transactions."""
    ours: list[int]
    """Which of them pay us."""
    paid: list[tuple[str, str, int]]
    """Account in lower case, token or empty, and amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """One block as it is served."""

    hash: str
    texts: tuple[bytes, bytes, bytes]


class GrownChain:
    """Blocks from FIRST on, as many as are asked for; each is made when the first question about it comes."""

    def __init__(self, recorded: list[tuple[Any, Any, Any]], length: int) -> None:
        """`recorded`: block, receipts and traces; the chain ends after `length` blocks."""
        self._templates = [_template(*each) for each in recorded]
        self.length = length
        self._hashes: list[str] = []
        self._heights: dict[str, int] = {"0x" + "00" * 32: -1}
        self._recent: dict[int, Grown] = {}
        cycle: dict[tuple[str, str], int] = {}
        self._paid: list[dict[tuple[str, str], int]] = [{}]
        for template in self._templates:
            for account, token, amount in template.paid:
                cycle[account, token] = cycle.get((account, token), 0) + amount
            self._paid.append(dict(cycle))

    def grown(self, place: int) -> Grown:
        """The block at FIRST + place. Those below it are made first: each names its parent."""
        while len(self._hashes) <= place:
            self._make(len(self._hashes))
        if place not in self._recent:
            self._recent[place] = self._written(place)
        return self._recent[place]

    def place_of(self, block_hash: str) -> int:
        """Raises KeyError."""
        return self._heights[block_hash]

    def held(self, place: int, account: str, token: str) -> int:
        """What an account of ours holds after this block."""
        rounds, rest = divmod(place + 1, len(self._templates))
        key = (account.lower(), token.lower())
        return rounds * self._paid[-1].get(key, 0) + self._paid[rest].get(key, 0)

    def _make(self, place: int) -> None:
        grown = self._written(place)
        self._hashes.append(grown.hash)
        self._heights[grown.hash] = place
        self._recent[place] = grown
        self._recent.pop(place - 200, None)

    def _written(self, place: int) -> Grown:
        template = self._templates[place % len(self._templates)]
        old = template.block
        changes: list[tuple[str, str]] = []
        encoded = list(template.encoded)
        for which in template.ours:
            tx = old["transactions"][which]
            mark = f"{(1 << 250) + place * 1000 + which:064x}"
            encoded[which] = encoded[which].replace(
                bytes.fromhex(tx["r"][2:].rjust(64, "0")), bytes.fromhex(mark)
            )
            changes += [(tx["r"], "0x" + mark), (tx["hash"], "0x" + keccak256(encoded[which]).hex())]
        header = {
            **{name: value for name, value in old.items() if name != "transactions"},
            "number": hex(FIRST + place),
            "parentHash": self._hashes[place - 1] if place else "0x" + "00" * 32,
            "timestamp": hex(1_700_000_000 + place),
            "transactionsRoot": "0x" + ordered_root(encoded).hex(),
        }
        name = "0x" + header_hash(header).hex()
        for field in ("parentHash", "transactionsRoot"):
            changes.append((old[field], header[field]))
        changes.append((old["hash"], name))
        texts = template.texts
        for before, after in changes:
            texts = tuple(text.replace(before.encode(), after.encode()) for text in texts)  # type: ignore[assignment]
        block = texts[0].replace(_member(old, "number"), _member(header, "number"), 1)
        block = block.replace(_member(old, "timestamp"), _member(header, "timestamp"), 1)
        return Grown(hash=name, texts=(block, texts[1], texts[2]))


def _template(block: dict[str, Any], receipts: list[dict[str, Any]], traces: list[Any]) -> Template:
    watched = {account.lower() for account in OURS}
    paid, ours = [], []
    for place, (tx, receipt) in enumerate(zip(block["transactions"], receipts, strict=True)):
        moved = [(str(tx["to"]).lower(), "", int(tx["value"], 16))]
        moved += [(each.destination, each.contract, each.amount) for each in token_transfers(receipt["logs"])]
        found = [each for each in moved if each[0] in watched and each[2]]
        if found:
            ours.append(place)
            paid += found
    return Template(
        block=block,
        texts=(orjson.dumps(block), orjson.dumps(receipts), orjson.dumps(traces)),
        encoded=[encode_transaction(each) for each in block["transactions"]],
        ours=ours,
        paid=paid,
    )


def _member(block: dict[str, Any], name: str) -> bytes:
    return orjson.dumps({name: block[name]})[1:-1]


async def record(chain: Recorded) -> bytes:
    """Ask the node for all its full blocks, with receipts and traces: what `serve` wants in its file."""
    rpc = JsonRpc(chain.url)
    found = []
    for height in range(chain.first, chain.last + 1):
        block = await rpc.call("eth_getBlockByNumber", [hex(height), True])
        answers = await rpc.call_all(
            [("eth_getBlockReceipts", [block["hash"]]), (DEBUG, [block["hash"], TRACER])]
        )
        found.append((block, *answers))
    await rpc.aclose()
    return pickle.dumps(found)


@contextmanager
def serve(path: Path, length: int) -> Iterator[str]:
    """A server of so many blocks in a process of its own. Its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.evm_replay", str(path), str(length)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()


class Answers:
    """What is answered to each method, as JSON text."""

    def __init__(self, chain: GrownChain) -> None:
        """Answers from this chain."""
        self._chain = chain

    def answer(self, body: bytes) -> bytes:
        """One request or a batch of them."""
        asked = orjson.loads(body)
        if isinstance(asked, list):
            return b"[" + b",".join([self._one(each) for each in asked]) + b"]"
        return self._one(asked)

    def _one(self, asked: dict[str, Any]) -> bytes:
        result = self._result(asked["method"], asked["params"])
        return b'{"jsonrpc":"2.0","id":%d,"result":%s}' % (asked["id"], result)

    def _result(self, method: str, params: list[Any]) -> bytes:
        chain = self._chain
        match method:
            case "eth_chainId":
                return orjson.dumps(hex(CHAIN_ID))
            case "eth_getBlockByNumber":
                place = chain.length - 1 if params[0] == "latest" else int(params[0], 16) - FIRST
                if not 0 <= place < chain.length:
                    return b"null"
                return chain.grown(place).texts[0] if params[1] else self._short(place)
            case "eth_getBlockReceipts":
                return chain.grown(chain.place_of(params[0])).texts[1]
            case "debug_traceBlockByHash":
                return chain.grown(chain.place_of(params[0])).texts[2]
            case "eth_getBalance":
                place = chain.place_of(params[1]["blockHash"])
                return orjson.dumps(hex(chain.held(place, params[0], "")))
            case "eth_call" if params[0]["data"].startswith(_BALANCE_OF):
                place = chain.place_of(params[1]["blockHash"])
                held = chain.held(place, "0x" + params[0]["data"][-40:], params[0]["to"])
                return orjson.dumps(f"0x{held:064x}")
            case "eth_call":
                return orjson.dumps(f"0x{6:064x}")
            case "eth_getStorageAt":
                return orjson.dumps("0x" + "00" * 32)
            case _:
                raise LookupError(method)

    def _short(self, place: int) -> bytes:
        if place == self._chain.length - 1:
            # The head of a chain that is not made yet: only its height matters to who is far below.
            return orjson.dumps({"number": hex(FIRST + place), "hash": "0x" + "ff" * 32})
        block = orjson.loads(self._chain.grown(place).texts[0])
        return orjson.dumps({**block, "transactions": [each["hash"] for each in block["transactions"]]})


async def _serve(answers: Answers) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                at = head.lower().index(b"content-length:")
                body = answers.answer(await reader.readexactly(int(head[at + 15 :].split(b"\r\n", 1)[0])))
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                    % len(body)
                )
                writer.write(body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> int:
    """Serve until ended."""
    chain = GrownChain(pickle.loads(Path(sys.argv[1]).read_bytes()), int(sys.argv[2]))
    # Made beforehand, as far as a round goes: a node has its blocks.
    chain.grown(min(chain.length, 200) - 1)
    asyncio.run(_serve(Answers(chain)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
