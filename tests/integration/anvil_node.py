"""A real anvil for one test: mines when told, and can be told to reorganise."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devnet.anvil import CHAIN_ID, MNEMONIC, find_anvil
from devnet.evm import Outsider
from devnet.processes import StackError

ROOT = Path(__file__).parent.parent.parent


@contextlib.asynccontextmanager
async def run_anvil(*options: str) -> AsyncIterator[str]:
    """The node's address; each transaction is mined at once. Skips where anvil is not installed."""
    try:
        program = find_anvil(ROOT)
    except StackError as error:
        pytest.skip(str(error))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        str(program),
        *("--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID), "--mnemonic", MNEMONIC),
        *options,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await _answers(url)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def _answers(url: str) -> None:
    async with Outsider(url) as outsider, asyncio.timeout(20):
        while True:
            with contextlib.suppress(Exception):
                await outsider.call("eth_chainId")
                return
            await asyncio.sleep(0.05)
