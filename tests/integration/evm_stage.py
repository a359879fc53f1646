"""A fresh anvil, somebody outside who has ether, and the settings of a worker that follows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from custody.kernel.assetid import ChainId, parse_asset_id
from custody.settings import ChainSettings
from devnet.anvil import CHAIN_ID
from devnet.evm import Outsider
from tests.integration.anvil_node import run_anvil

CHAIN = ChainId(f"eip155:{CHAIN_ID}")
ETH = parse_asset_id(f"{CHAIN}/native")


@pytest.fixture
async def node() -> AsyncIterator[str]:
    """A fresh chain."""
    async with run_anvil() as url:
        yield url


@pytest.fixture
async def outsider(node: str) -> AsyncIterator[Outsider]:
    """Somebody with ether."""
    async with Outsider(node) as client:
        yield client


def evm_settings(node: str, **chosen: Any) -> ChainSettings:
    """The chain as an operator would configure it."""
    limits = {
        "gas_limit_native": 21_000,
        "gas_limit_erc20": 100_000,
        "max_fee_per_gas_wei": 10**12,
        "max_priority_fee_per_gas_wei": 10**11,
        "tx_valid_s": 600,
    }
    return ChainSettings(
        **{"id": CHAIN, "kind": "evm", "rpc_url": node, "chain_id": CHAIN_ID, **limits, **chosen}
    )
