"""What inclusion costs on an EVM chain now, by what its blocks took lately. Caps are the caller's business.

Sources: EIP-1559 (the base fee moves by an eighth a block at most); eth_feeHistory of the Ethereum JSON-RPC specification; the OP
Stack's GasPriceOracle (Fjord: getL1FeeUpperBound); Arbitrum, which counts the layer below as gas and takes no tip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from custody.chains.errors import RpcUnreadable
from custody.chains.evm.abi import parse_quantity, parse_word
from custody.chains.jsonrpc import JsonRpc, require_dict, require_list
from custody.chains.ports import FeeQuote

FEE_BLOCKS = 10
"""How many past blocks the tip is judged by."""
MIN_TIP_WEI = 1_000_000
"""An empty chain quotes a tip of zero, which some nodes do not queue."""
TX_BYTES = 200
"""No transaction of ours is longer: a token transfer of type 2 with 32-byte amounts has 176 bytes with its signature."""
GAS_PRICE_ORACLE = "0x420000000000000000000000000000000000000F"
"""Where every OP Stack chain tells what the layer below costs."""
_UPPER_BOUND = "0xf1c7a58b"
"""First four bytes of keccak256("getL1FeeUpperBound(uint256)")."""

Market = Literal["eip1559", "gas_price"]
Rollup = Literal["none", "op_stack", "arbitrum"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """How a chain's price is found."""

    percentile: int = 60
    """Which of the tips paid in a block is taken."""
    market: Market = "eip1559"
    """`gas_price` where the whole price goes to the block's producer: what the node names is bid, as price and as tip."""
    rollup: Rollup = "none"
    """Whether a layer below has to be paid, and how."""


async def quote(rpc: JsonRpc, pricing: Pricing) -> FeeQuote:
    """The going price. Raises as `JsonRpc.call`; also where an OP Stack chain does not tell what the layer below costs."""
    below = await _layer_below(rpc) if pricing.rollup == "op_stack" else 0
    if pricing.market == "gas_price":
        method = "eth_gasPrice"
        price = max(1, parse_quantity(method, await rpc.call(method, [])))
        return FeeQuote(
            max_fee_per_gas_wei=price,
            max_priority_fee_per_gas_wei=price,
            base_fee_per_gas_wei=0,
            layer_one_fee_wei=below,
        )
    base, tip = await _market(rpc, pricing.percentile)
    tip = 0 if pricing.rollup == "arbitrum" else max(MIN_TIP_WEI, tip)
    return FeeQuote(
        max_fee_per_gas_wei=2 * base + tip,
        max_priority_fee_per_gas_wei=tip,
        base_fee_per_gas_wei=base,
        layer_one_fee_wei=below,
    )


async def _market(rpc: JsonRpc, percentile: int) -> tuple[int, int]:
    """Base fee of the next block, and the middle one of what the last blocks' tips were at the percentile."""
    method = "eth_feeHistory"
    answer = require_dict(method, await rpc.call(method, [hex(FEE_BLOCKS), "latest", [percentile]]))
    bases = require_list(method, answer.get("baseFeePerGas"))
    if not bases:
        raise RpcUnreadable(method=method, reason="no base fee")
    tips = sorted(
        parse_quantity(method, reward[0])
        for reward in answer.get("reward") or []
        if isinstance(reward, list) and reward
    )
    return parse_quantity(method, bases[-1]), tips[len(tips) // 2] if tips else 0


async def _layer_below(rpc: JsonRpc) -> int:
    """The most that the layer below may take for one transaction of ours: beside the gas, and under no cap of the sender."""
    method = "eth_call"
    call: dict[str, Any] = {"to": GAS_PRICE_ORACLE, "data": _UPPER_BOUND + f"{TX_BYTES:064x}"}
    return parse_word(method, await rpc.call(method, [call, "latest"]))
