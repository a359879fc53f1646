"""The outsider on a real EVM node: ether and tokens arrive, failures are said, state survives a restart of the node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from devnet import anvil
from devnet.config import ROOT
from devnet.evm import Outsider, OutsiderError
from devnet.ports import choose_port
from devnet.processes import ManagedProcess, StackError, Watchdog

STRANGER = "0x00000000000000000000000000000000000c0ffe"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ManagedProcess, str]]:
    state = tmp_path_factory.mktemp("anvil")
    port = choose_port("anvil", None, set(), print)
    watchdog = Watchdog()
    process = ManagedProcess(anvil.anvil_spec(ROOT, state, port, block_time_s=None), state / "log", watchdog)
    process.start()
    process.wait_ready()
    yield process, anvil.url(port)
    process.stop()
    watchdog.close()


async def test_ether_arrives(node: tuple[ManagedProcess, str]) -> None:
    async with Outsider(node[1]) as outsider:
        before = await outsider.balance(STRANGER)
        mined = await outsider.send_ether(STRANGER, 10**18)
        assert await outsider.balance(STRANGER) == before + 10**18
        assert mined.height > 0


async def test_tokens_are_minted_and_sent(node: tuple[ManagedProcess, str]) -> None:
    async with Outsider(node[1]) as issuer, Outsider(node[1], 1) as holder:
        token = await issuer.deploy_token()
        await issuer.mint(token, await holder.address(), 5_000_000)
        await holder.send_tokens(token, STRANGER, 2_000_000)
        assert await holder.token_balance(token, await holder.address()) == 3_000_000
        assert await holder.token_balance(token, STRANGER) == 2_000_000


async def test_spending_more_than_there_is_fails(node: tuple[ManagedProcess, str]) -> None:
    async with Outsider(node[1]) as issuer, Outsider(node[1], 2) as poor:
        token = await issuer.deploy_token()
        with pytest.raises(OutsiderError):
            await poor.send_tokens(token, STRANGER, 1)
        assert await poor.token_balance(token, STRANGER) == 0


async def test_only_the_issuer_mints(node: tuple[ManagedProcess, str]) -> None:
    async with Outsider(node[1]) as issuer, Outsider(node[1], 3) as other:
        token = await issuer.deploy_token()
        with pytest.raises(OutsiderError):
            await other.mint(token, STRANGER, 1)


async def test_chain_goes_on_after_a_restart(node: tuple[ManagedProcess, str]) -> None:
    process, url = node
    async with Outsider(url) as outsider:
        mined = await outsider.send_ether(STRANGER, 7)
        balance = await outsider.balance(STRANGER)
        process.stop()
        process.start()
        process.wait_ready()
        assert await outsider.balance(STRANGER) == balance
        assert int(await outsider.call("eth_blockNumber"), 16) >= mined.height


def test_committed_artefact_names_its_compiler() -> None:
    artefact = json.loads((ROOT / "devnet" / "contracts" / "TestUSD.json").read_text())
    assert artefact["compiler"].startswith("0.8.30+")
    events = {item["name"] for item in artefact["abi"] if item["type"] == "event"}
    assert events == {"Transfer", "Approval"}


def test_missing_anvil_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="make setup"):
        anvil.find_anvil(tmp_path)
