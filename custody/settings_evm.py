"""How transactions are sent on an EVM chain: a part of the chain's settings, `[chains.evm]`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class EvmSending(BaseModel):
    """What may be left as it is on Ethereum and on most chains like it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fee_market: Literal["eip1559", "gas_price"] = "eip1559"
    """`gas_price` where all of the price goes to the block's producer and the node names it (BNB Smart Chain and its like). The
    transactions are of type 2 all the same: a chain that knows none is not served."""
    fee_percentile: int = Field(default=60, ge=1, le=99)
    """Which of the tips paid in the last blocks is bid."""
    rollup: Literal["none", "op_stack", "arbitrum"] = "none"
    """`op_stack`: a fee for the layer below is taken beside the gas and must be there too. `arbitrum`: it is a part of the gas,
    so that gas limits have to leave room for it, and there are no tips."""
    in_flight_max: int = Field(default=100, ge=1, le=1000)
    """Transactions of one key that may wait for their blocks at once. Nodes have limits of their own (geth keeps 16 of an account
    in any case, and 64 out of order); what they do not take yet is sent again."""
    stuck_after_blocks: int = Field(default=6, ge=1, le=10_000)
    """Blocks that the next transaction of a key may wait, before it is bid for again if its price has fallen behind."""
    bump_percent: int = Field(default=12, ge=10, le=200)
    """How much dearer a replacement is at least, in both prices. Nodes ask for 10, and so does the signer."""
