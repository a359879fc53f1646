"""What is known of well-known EVM chains, so that their configuration need not say it. Every value may be said otherwise there.

Sources. Chain ids: EIP-155, ethereum-lists/chains. Wrapped native contracts: WETH9 on Ethereum; the OP Stack's predeploys (WETH);
Arbitrum's token bridge (aeWETH); WPOL (before: WMATIC), WBNB and WAVAX of their chains. Tags:
- Ethereum: the consensus layer's justified (`safe`) and finalized blocks. Ethereum execution API.
- Base, Optimism: `safe` is derived from data posted to Ethereum, `finalized` from data in a finalized block. OP Stack.
- Arbitrum: batches in safe and finalized blocks of Ethereum. Nitro v2.0.10.
- Polygon: milestones agreed by the validators (PIP-11). Since Madhugiri, block 80084800, state-sync transactions are of type 0x7f
  and in the body (PIP-74); before, nodes show them in blocks and receipts although no root holds them.
- BSC: fast finality, votes for two blocks in a row (BEP-126).
- Avalanche: what a node names is accepted by Snowman, and that is final; all tags name the newest accepted block (coreth). Its
  header has fields of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

FinalityTag = Literal["", "safe", "finalized"]
"""A block that the node names by this tag, and all below it. Empty for none."""
PresetName = Literal["ethereum", "base", "arbitrum", "optimism", "polygon", "bsc", "avalanche"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Settings of one chain, by their names in `ChainSettings`."""

    chain_id: int
    finality_tag: FinalityTag = "finalized"
    confirmations: int = 0
    wrapped_native: tuple[str, ...]
    poll_interval_s: float
    """About half of the time between two blocks, and no less than a quarter of a second."""
    silence_after_s: int
    """So long without a block is no accident on this chain."""
    provider_lag_max: int
    """About ten seconds of blocks, and at least two."""
    inner_value: Literal["balances", "debug", "trace"] = "balances"
    """What every node can tell."""
    unprovable_blocks: Literal["refuse", "tell"] = "refuse"
    start_height: int = 0
    """Lower blocks are not to be had in a form that can be read."""
    l1_fee: bool = False
    """The OP Stack takes a fee for data on Ethereum that only the receipt's `l1Fee` tells."""

    def settings(self) -> dict[str, Any]:
        """As the configuration would say it."""
        return {"id": f"eip155:{self.chain_id}", "kind": "evm", **asdict(self)}


_OP_WETH = ("0x4200000000000000000000000000000000000006",)
PRESETS: Mapping[str, Preset] = {
    # A block each 12 s; of the slots some are missed.
    "ethereum": Preset(
        chain_id=1,
        wrapped_native=("0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2",),
        poll_interval_s=6.0,
        silence_after_s=180,
        provider_lag_max=2,
    ),
    # A block each 2 s.
    "base": Preset(
        chain_id=8453,
        wrapped_native=_OP_WETH,
        poll_interval_s=1.0,
        silence_after_s=60,
        provider_lag_max=5,
        l1_fee=True,
    ),
    # A block each 2 s.
    "optimism": Preset(
        chain_id=10,
        wrapped_native=_OP_WETH,
        poll_interval_s=1.0,
        silence_after_s=60,
        provider_lag_max=5,
        l1_fee=True,
    ),
    # A block each 0.25 s while there is something to do. Transactions of types 0x64 to 0x6a are not known to us.
    "arbitrum": Preset(
        chain_id=42161,
        wrapped_native=("0x82aF49447D8a07e3bd95BD0d56f35241523fBab1",),
        poll_interval_s=0.25,
        silence_after_s=60,
        provider_lag_max=40,
        unprovable_blocks="tell",
    ),
    # A block each 2 s. Blocks from Madhugiri on; state-sync transactions (0x7f) are not known to us.
    "polygon": Preset(
        chain_id=137,
        start_height=80_084_800,
        wrapped_native=("0x0d500B1d8E8eF31E21C99d1Db9A6444d3ADf1270",),
        poll_interval_s=1.0,
        silence_after_s=60,
        provider_lag_max=5,
        unprovable_blocks="tell",
    ),
    # A block each 0.45 s to 3 s: it was shortened several times.
    "bsc": Preset(
        chain_id=56,
        wrapped_native=("0xbb4CdB9CBd36B01bD1cBaEBF2De08d9173bc095c",),
        poll_interval_s=0.5,
        silence_after_s=60,
        provider_lag_max=15,
    ),
    # A block each 1 s to 2 s.
    "avalanche": Preset(
        chain_id=43114,
        wrapped_native=("0xB31f66AA3C1e785363F0875A1B74E27b85FD66c7",),
        poll_interval_s=0.5,
        silence_after_s=60,
        provider_lag_max=5,
        unprovable_blocks="tell",
    ),
}
