"""A real chain on anvil whose blocks hold about a hundred transactions: ether and ERC-20 transfers among strangers, and every
fourth block one of each to an account of ours."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custody.chains.errors import RpcUnreachable
from custody.chains.evm.address import checksum
from custody.chains.jsonrpc import JsonRpc
from devnet.anvil import CHAIN_ID, MNEMONIC, find_anvil

ROOT = Path(__file__).parent.parent
SENDERS = 100
TRANSACTIONS = 100
"""Of each block: half of them move ether, half tokens."""
OURS_EVERY = 4
"""Every so many blocks pay an account of ours, once in ether and once in tokens."""
OURS = tuple(checksum(f"0x{0xC0FFEE00 + number:040x}") for number in range(16))
_GAS_LIMIT = 30_000_000
_FEES = {"maxFeePerGas": hex(2 * 10**9), "maxPriorityFeePerGas": hex(10**9)}
_MINT, _TRANSFER = "0x40c10f19", "0xa9059cbb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The chain that was made."""

    url: str
    token: str
    """EIP-55."""
    first: int
    """Height of the first full block."""
    last: int


@contextmanager
def run_anvil() -> Iterator[str]:
    """A node that mines when told. Its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(str(find_anvil(ROOT)), "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID)),
            *("--mnemonic", MNEMONIC, "--accounts", str(SENDERS), "--no-mining", "--order", "fifo"),
            *("--gas-limit", str(_GAS_LIMIT), "--quiet"),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


async def fill(url: str, blocks: int) -> Recorded:
    """Mine so many full blocks on a node without any."""
    rpc = JsonRpc(url)
    try:
        await _answers(rpc)
        senders: list[str] = await rpc.call("eth_accounts", [])
        token = await _deploy(rpc, senders)
        chance = random.Random(1)
        nonces = dict.fromkeys(senders, 0)
        nonces[senders[0]] = 1 + len(senders)
        for number in range(blocks):
            payments = [
                _pay(chance, place, token, _receiver(chance, number, place)) for place in range(TRANSACTIONS)
            ]
            calls = []
            for place, payment in enumerate(payments):
                sender = senders[place % len(senders)]
                calls.append(
                    ("eth_sendTransaction", [{**payment, "from": sender, "nonce": hex(nonces[sender])}])
                )
                nonces[sender] += 1
            await rpc.call_all(calls)
            await rpc.call("anvil_mine", ["0x1"])
        head = int(await rpc.call("eth_blockNumber", []), 16)
        block = await rpc.call("eth_getBlockByNumber", [hex(head), False])
        if len(block["transactions"]) != TRANSACTIONS:
            raise RuntimeError(
                f"a block of {len(block['transactions'])} transactions: the figures would mean nothing"
            )
        return Recorded(url=url, token=checksum(token), first=head - blocks + 1, last=head)
    finally:
        await rpc.aclose()


async def _answers(rpc: JsonRpc) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                await rpc.call("eth_chainId", [])
            except RpcUnreachable:
                await asyncio.sleep(0.05)
            else:
                return


async def _deploy(rpc: JsonRpc, senders: Sequence[str]) -> str:
    """The token, of which every sender has plenty."""
    code = json.loads((ROOT / "devnet" / "contracts" / "TestUSD.json").read_text(encoding="utf-8"))[
        "bytecode"
    ]
    tx_hash = await rpc.call("eth_sendTransaction", [{"from": senders[0], "data": code}])
    await rpc.call("anvil_mine", ["0x1"])
    token = str((await rpc.call("eth_getTransactionReceipt", [tx_hash]))["contractAddress"])
    for sender in senders:
        data = _MINT + sender[2:].rjust(64, "0") + f"{10**15:064x}"
        await rpc.call(
            "eth_sendTransaction", [{"from": senders[0], "to": token, "data": data, "gas": hex(200_000)}]
        )
    await rpc.call("anvil_mine", ["0x1"])
    return token


def _receiver(chance: random.Random, block: int, place: int) -> str:
    if block % OURS_EVERY == 0 and place < 2:
        return OURS[block // OURS_EVERY % len(OURS)]
    return "0x" + chance.randbytes(20).hex()


def _pay(chance: random.Random, place: int, token: str, receiver: str) -> dict[str, Any]:
    amount = chance.randrange(1, 10**9)
    if place % 2 == 0:
        return {"to": receiver, "value": hex(amount), "gas": hex(21_000), **_FEES}
    data = _TRANSFER + receiver[2:].lower().rjust(64, "0") + f"{amount:064x}"
    return {"to": token, "value": "0x0", "data": data, "gas": hex(100_000), **_FEES}
