"""A fresh anvil, somebody outside who has ether, and the settings of a worker that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cli.main import main as custody
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


Run = Callable[..., Awaitable[tuple[int, str, str]]]
"""Runs `custody ingest WORDS`; its exit code, standard output and standard error."""


@pytest.fixture
def run(
    node: str,
    app_dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """The command, with the chain configured as an operator would."""
    settings = tmp_path / "custody.toml"
    settings.write_text(
        f"""
environment = "development"
intent_valid_s = 60
[database]
url = "{app_dsn}"
[redis]
url = "redis://127.0.0.1:1/0"
[signer]
socket = "{tmp_path}/signer.sock"
[api]
port = 18080
[[chains]]
id = "{CHAIN}"
kind = "evm"
rpc_url = "{node}"
chain_id = {CHAIN_ID}
confirmations = 2
gas_limit_native = 21000
gas_limit_erc20 = 100000
max_fee_per_gas_wei = 1000000000000
max_priority_fee_per_gas_wei = 100000000000
tx_valid_s = 600
""",
        encoding="utf-8",
    )
    monkeypatch.setenv("CUSTODY_CONFIG", str(settings))

    async def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(custody, ["ingest", *words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


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
