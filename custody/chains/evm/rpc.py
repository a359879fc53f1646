"""An EVM chain through its node's JSON-RPC. Source: the Ethereum JSON-RPC specification."""

from __future__ import annotations

from typing import Any

from custody.chains.errors import (
    NotConnected,
    RpcRefused,
    RpcUnreachable,
    RpcUnreadable,
    UnsupportedChain,
    WrongNetwork,
)
from custody.chains.evm.abi import balance_of_call, parse_quantity, parse_word
from custody.chains.evm.answers import Meaning, judged, meaning_of
from custody.chains.evm.fees import Pricing, quote
from custody.chains.jsonrpc import JsonRpc, require_dict, require_str
from custody.chains.ports import ChainBalance, FeeQuote, Head, Submission, SubmissionStatus
from custody.kernel.assetid import AssetId, ChainId


class EvmRpc:
    """One EVM chain. A `ChainClient`."""

    def __init__(self, chain: ChainId, rpc: JsonRpc, chain_id: int, pricing: Pricing | None = None) -> None:
        """`chain_id` is compared with the node's by `verify_network` (EIP-155)."""
        self._chain = chain
        self._rpc = rpc
        self._chain_id = chain_id
        self._pricing = pricing or Pricing()

    @property
    def chain(self) -> ChainId:
        """The CAIP-2 id of the chain."""
        return self._chain

    async def submit(self, tx: bytes, tx_hash: str) -> Submission:
        """Hand a signed transaction to the node. `tx_hash` is its hash, 0x and lower-case hex.

        "Nonce too low" may mean that this very transaction is mined: the node is asked for it, and only a yes is an answer.
        """
        try:
            await self._rpc.call("eth_sendRawTransaction", ["0x" + tx.hex()])
        except RpcRefused as error:
            return await self._judge(error.rpc_message, tx_hash)
        except NotConnected as error:
            return Submission(status=SubmissionStatus.TRY_LATER, code=error.code)
        except (RpcUnreachable, RpcUnreadable) as error:
            return Submission(status=SubmissionStatus.UNKNOWN, code=error.code)
        return Submission(status=SubmissionStatus.ACCEPTED)

    async def next_sequence(self, account: str) -> int:
        """The nonce after everything the node knows of this account, its queue included."""
        method = "eth_getTransactionCount"
        return parse_quantity(method, await self._rpc.call(method, [account, "pending"]))

    async def mined_sequence(self, account: str) -> int:
        """The nonce after those in blocks, by the newest block."""
        method = "eth_getTransactionCount"
        return parse_quantity(method, await self._rpc.call(method, [account, "latest"]))

    async def head(self) -> Head:
        """The newest block."""
        method = "eth_getBlockByNumber"
        block = require_dict(method, await self._rpc.call(method, ["latest", False]))
        return Head(
            height=parse_quantity(method, block.get("number")),
            hash=require_str(method, block.get("hash")).lower(),
        )

    async def balance(self, account: str, asset: AssetId, height: int | None) -> ChainBalance:
        """The account's holding of an asset at a block. Without a height: at the newest block, which is then named."""
        at = height if height is not None else (await self.head()).height
        if asset.is_native:
            method = "eth_getBalance"
            answer = await self._rpc.call(method, [account, hex(at)])
            return ChainBalance(amount=parse_quantity(method, answer), height=at)
        kind, _, contract = asset.reference.partition(":")
        if kind != "erc20":
            raise UnsupportedChain(asset=asset.text)
        method = "eth_call"
        call: dict[str, Any] = {"to": contract, "data": balance_of_call(account)}
        return ChainBalance(
            amount=parse_word(method, await self._rpc.call(method, [call, hex(at)])), height=at
        )

    async def fees(self) -> FeeQuote:
        """The going price (`fees.quote`)."""
        return await quote(self._rpc, self._pricing)

    async def verify_network(self) -> None:
        """Compare the node's chain id with the configured one. Raises WrongNetwork."""
        method = "eth_chainId"
        found = parse_quantity(method, await self._rpc.call(method, []))
        if found != self._chain_id:
            raise WrongNetwork(chain=self._chain, node=found)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._rpc.aclose()

    async def _judge(self, message: str, tx_hash: str) -> Submission:
        """What the node's words about a submission mean; of a spent nonce it is asked by whom."""
        meaning = meaning_of(message)
        if meaning is Meaning.SPENT and await self._knows(tx_hash):
            return Submission(status=SubmissionStatus.ACCEPTED)
        return judged(meaning)

    async def _knows(self, tx_hash: str) -> bool:
        """Whether the node has the transaction, mined or queued. Trouble in asking counts as not knowing."""
        try:
            return await self._rpc.call("eth_getTransactionByHash", [tx_hash]) is not None
        except (RpcUnreachable, RpcRefused, RpcUnreadable):
            return False
