"""Somebody else on the local EVM chain: deploys a token, sends ether and tokens, and waits for the block that holds them.

It signs nothing: anvil holds the keys of its development accounts and signs for whoever asks. No product code is used, so that
a mistake in ours cannot hide itself.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

_ARTEFACT = Path(__file__).parent / "contracts" / "TestUSD.json"
_WAIT_S = 30.0
# The first four bytes of keccak256 of the signature: Contract ABI Specification, "Function Selector".
_MINT = "40c10f19"  # mint(address,uint256)
_TRANSFER = "a9059cbb"  # transfer(address,uint256)
_BALANCE_OF = "70a08231"  # balanceOf(address)


class OutsiderError(Exception):
    """The node refused, or the transaction failed or was not mined in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """A transaction of the outsider that is in a block."""

    tx_hash: str
    height: int
    contract: str | None
    """Address of the contract that it deployed."""


class Outsider:
    """One development account of the node. Use it as an async context manager."""

    def __init__(self, rpc_url: str, index: int = 0) -> None:
        """`index` chooses the account: two outsiders with different indexes never share a nonce."""
        self._rpc_url = rpc_url
        self._index = index
        self._http = httpx.AsyncClient(timeout=10.0, trust_env=False)
        self._address: str | None = None

    async def __aenter__(self) -> Outsider:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def address(self) -> str:
        """The account's address as the node writes it (lower case)."""
        if self._address is None:
            accounts: list[str] = await self.call("eth_accounts")
            self._address = accounts[self._index]
        return self._address

    async def deploy_token(self) -> str:
        """Deploy TestUSD (six decimals); its issuer is this account. Returns the contract's address in lower case."""
        bytecode: str = json.loads(_ARTEFACT.read_text(encoding="utf-8"))["bytecode"]
        mined = await self.send({"data": bytecode})
        if mined.contract is None:
            raise OutsiderError("the node reported no contract address")
        return mined.contract

    async def mint(self, token: str, to: str, amount: int) -> Mined:
        """Issue `amount` atomic units of the token to this address."""
        return await self.send({"to": token, "data": _encode(_MINT, to, amount)})

    async def send_tokens(self, token: str, to: str, amount: int) -> Mined:
        """Transfer `amount` atomic units of the account's own tokens."""
        return await self.send({"to": token, "data": _encode(_TRANSFER, to, amount)})

    async def send_ether(self, to: str, wei: int) -> Mined:
        """A plain value transfer."""
        return await self.send({"to": to, "value": hex(wei)})

    async def balance(self, address: str) -> int:
        """Wei of the address at the latest block."""
        return int(await self.call("eth_getBalance", address, "latest"), 16)

    async def token_balance(self, token: str, address: str) -> int:
        """Atomic units of the token that the address holds at the latest block."""
        data = f"0x{_BALANCE_OF}{_word(int(address, 16))}"
        return int(await self.call("eth_call", {"to": token, "data": data}, "latest"), 16)

    async def mine(self, blocks: int = 1) -> None:
        """Close this many blocks now."""
        await self.call("anvil_mine", hex(blocks))

    async def call(self, method: str, *params: Any) -> Any:  # the shape differs by method
        """One JSON-RPC call. Raises OutsiderError with the node's message."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = (await self._http.post(self._rpc_url, json=body)).raise_for_status().json()
        if "error" in answer:
            raise OutsiderError(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    async def send(self, transaction: dict[str, str]) -> Mined:
        """Any transaction of this account, mined. Raises OutsiderError when it fails on chain."""
        tx_hash: str = await self.call("eth_sendTransaction", {"from": await self.address(), **transaction})
        try:
            async with asyncio.timeout(_WAIT_S):
                # Polled, because nothing on our side could set an event: the node has to be asked.
                while (receipt := await self.call("eth_getTransactionReceipt", tx_hash)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise OutsiderError(f"{tx_hash} is in no block after {_WAIT_S:.0f} s") from error
        if receipt["status"] != "0x1":
            raise OutsiderError(f"{tx_hash} failed on chain")
        return Mined(
            tx_hash=tx_hash, height=int(receipt["blockNumber"], 16), contract=receipt.get("contractAddress")
        )


def _encode(selector: str, address: str, amount: int) -> str:
    return f"0x{selector}{_word(int(address, 16))}{_word(amount)}"


def _word(value: int) -> str:
    """A 32-byte big-endian word. Contract ABI Specification, "Formal Specification of the Encoding"."""
    return value.to_bytes(32, "big").hex()
