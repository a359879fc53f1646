"""An EVM chain through its node's JSON-RPC. Source: the Ethereum JSON-RPC specification; EIP-1559 for fees."""

from __future__ import annotations

from typing import Any

from custody.chains.errors import RpcRefused, RpcUnreachable, RpcUnreadable, UnsupportedChain, WrongNetwork
from custody.chains.evm.abi import balance_of_call, parse_quantity, parse_word
from custody.chains.jsonrpc import JsonRpc, require_dict, require_list, require_str
from custody.chains.ports import ChainBalance, FeeQuote, Head, Submission, SubmissionStatus
from custody.kernel.assetid import AssetId, ChainId

FEE_BLOCKS = 10
"""How many past blocks the tip is judged by."""
TIP_PERCENTILE = 60
"""Which of the tips paid in a block is taken: a little above the middle."""
MIN_TIP_WEI = 1_000_000
"""An empty chain quotes a tip of zero, which some nodes do not queue."""

_REFUSALS = (
    ("insufficient funds", "insufficient_funds"),
    ("underpriced", "underpriced"),
    ("max fee per gas less than block base fee", "underpriced"),
    ("intrinsic gas too low", "gas_too_low"),
    ("gas limit", "gas_limit"),
    ("invalid sender", "invalid_signature"),
    ("invalid signature", "invalid_signature"),
    ("invalid chain id", "wrong_chain"),
    ("tip higher than fee cap", "invalid_fees"),
    ("max priority fee per gas higher", "invalid_fees"),
    ("decode", "invalid_encoding"),
)
"""Words of geth, reth, nethermind and anvil, and our name for the refusal. The first that matches decides."""
_KNOWN = ("already known", "already imported", "known transaction", "alreadyknown")
_SPENT = ("nonce too low", "nonce is too low", "oldnonce")


class EvmRpc:
    """One EVM chain. A `ChainClient`."""

    def __init__(self, chain: ChainId, rpc: JsonRpc, chain_id: int) -> None:
        """`chain_id` is compared with the node's by `verify_network` (EIP-155)."""
        self._chain = chain
        self._rpc = rpc
        self._chain_id = chain_id

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
        except (RpcUnreachable, RpcUnreadable) as error:
            return Submission(status=SubmissionStatus.UNKNOWN, code=error.code)
        return Submission(status=SubmissionStatus.ACCEPTED)

    async def next_sequence(self, account: str) -> int:
        """The nonce after everything the node knows of this account, its queue included."""
        method = "eth_getTransactionCount"
        return parse_quantity(method, await self._rpc.call(method, [account, "pending"]))

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
        """Twice the next base fee plus the middle tip of the last blocks. Source: EIP-1559 (base fee moves 12.5 % a block)."""
        method = "eth_feeHistory"
        answer = require_dict(
            method, await self._rpc.call(method, [hex(FEE_BLOCKS), "latest", [TIP_PERCENTILE]])
        )
        bases = require_list(method, answer.get("baseFeePerGas"))
        if not bases:
            raise RpcUnreadable(method=method, reason="no base fee")
        tips = sorted(
            parse_quantity(method, reward[0])
            for reward in answer.get("reward") or []
            if isinstance(reward, list) and reward
        )
        tip = max(MIN_TIP_WEI, tips[len(tips) // 2] if tips else 0)
        return FeeQuote(
            max_fee_per_gas_wei=2 * parse_quantity(method, bases[-1]) + tip, max_priority_fee_per_gas_wei=tip
        )

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
        """What the node's words about a submission mean. Words we do not know prove nothing."""
        words = message.lower()
        if any(known in words for known in _KNOWN):
            return Submission(status=SubmissionStatus.ACCEPTED)
        if any(spent in words for spent in _SPENT):
            known = await self._knows(tx_hash)
            status = SubmissionStatus.ACCEPTED if known else SubmissionStatus.UNKNOWN
            return Submission(status=status, code="" if known else "nonce_too_low")
        for fragment, code in _REFUSALS:
            if fragment in words:
                return Submission(status=SubmissionStatus.REFUSED, code=code)
        return Submission(status=SubmissionStatus.UNKNOWN, code="unknown_refusal")

    async def _knows(self, tx_hash: str) -> bool:
        """Whether the node has the transaction, mined or queued. Trouble in asking counts as not knowing."""
        try:
            return await self._rpc.call("eth_getTransactionByHash", [tx_hash]) is not None
        except (RpcUnreachable, RpcRefused, RpcUnreadable):
            return False
