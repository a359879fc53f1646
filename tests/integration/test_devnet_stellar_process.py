"""The network as a process: it survives kill -9, refuses what it cannot run on, and continues one chain."""

import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from stellar_sdk import SorobanServer, xdr

from devnet.stellar.network import LocalNetwork
from devnet.stellar.outsider import Outsider
from devnet.stellar.store import LedgerLog, StateDirUnusable
from tests.unit.test_devnet_stellar_proof import Mix

ROOT = Path(__file__).parents[2]


@contextmanager
def process(state_dir: Path, *options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    command = [
        sys.executable,
        "-m",
        "devnet.stellar.main",
        "--port",
        "0",
        "--state-dir",
        str(state_dir),
        *options,
    ]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        line = child.stdout.readline()
        yield child, line.split("stellar devnet at ")[1].split(",")[0]
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_chain_and_balances_survive_kill_dash_nine(tmp_path: Path) -> None:
    with process(tmp_path, "--close-every", "0.05") as (child, url):
        with Outsider(url) as outsider:
            keypair = outsider.new_account()
            usd = outsider.issue_asset("USDC")
            outsider.trust(keypair, usd.asset)
            outsider.pay(usd.issuer, keypair.public_key, 77, asset=usd.asset)
        seen = SorobanServer(url).get_ledgers(start_ledger=2, limit=200).ledgers
        os.kill(child.pid, signal.SIGKILL)
    with process(tmp_path, "--close-every", "0.05") as (_, url):
        with Outsider(url) as outsider:
            assert outsider.balance(keypair.public_key, usd.asset) == 77
            outsider.pay(usd.issuer, keypair.public_key, 1, asset=usd.asset)
            assert outsider.balance(keypair.public_key, usd.asset) == 78
        after = SorobanServer(url).get_ledgers(start_ledger=2, limit=200).ledgers
    assert [info.metadata_xdr for info in after[: len(seen)]] == [info.metadata_xdr for info in seen]
    hashes = [info.hash for info in after]
    for parent, info in zip(hashes, after[1:], strict=False):
        header = xdr.LedgerHeaderHistoryEntry.from_xdr(info.header_xdr).header
        assert header.previous_ledger_hash.hash.hex() == parent
        assert hashlib.sha256(header.to_xdr_bytes()).hexdigest() == info.hash


def test_manual_mode_closes_by_call_only(tmp_path: Path) -> None:
    with process(tmp_path, "--manual") as (_, url):
        assert httpx.post(f"{url}/devnet/close").json()["ledger"] == 3
        state = httpx.get(f"{url}/devnet/state").json()
        assert (state["latestLedger"], state["manual"]) == (3, True)


def test_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "devnet.stellar.main", "--port", port]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "choose another --port" in done.stderr


def test_second_process_on_the_same_state_is_refused(tmp_path: Path) -> None:
    with process(tmp_path, "--manual"):
        command = [sys.executable, "-m", "devnet.stellar.main", "--port", "0", "--state-dir", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "in use by another process" in done.stderr


def test_state_of_another_network_is_refused(tmp_path: Path) -> None:
    LocalNetwork(passphrase="one", state_dir=tmp_path).shut_down()
    with pytest.raises(StateDirUnusable, match="another passphrase"):
        LocalNetwork(passphrase="two", state_dir=tmp_path)


@pytest.mark.parametrize("cut", [1, 7, 9, 200])
def test_torn_last_ledger_is_cut_off_and_the_chain_goes_on(tmp_path: Path, cut: int) -> None:
    network = LocalNetwork(state_dir=tmp_path)
    kept = [network.close(), network.close()][0]
    network.shut_down()
    path = tmp_path / "ledgers.bin"
    path.write_bytes(path.read_bytes()[:-cut])
    again = LocalNetwork(state_dir=tmp_path)
    assert again.latest.hash == kept.v2.ledger_header.hash.hash
    again.close()
    again.shut_down()
    log = LedgerLog(tmp_path, again.passphrase)
    assert len(log.metas) == 3
    log.close()


def test_ledger_that_the_disk_does_not_take_is_not_closed(tmp_path: Path) -> None:
    network = LocalNetwork(state_dir=tmp_path)
    before, size = network.latest.hash, (tmp_path / "ledgers.bin").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))
    try:
        with pytest.raises(OSError, match="part of the ledger"):
            network.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert network.latest.hash == before
    network.close()
    network.shut_down()
    again = LocalNetwork(state_dir=tmp_path)
    assert again.latest.sequence == 3
    again.shut_down()


def test_replayed_state_equals_the_state_it_came_from(tmp_path: Path) -> None:
    network = LocalNetwork(state_dir=tmp_path)
    mix = Mix(5, network)
    for _ in range(12):
        mix.round()
    before = network.entries()
    network.shut_down()
    again = LocalNetwork(state_dir=tmp_path)
    assert sorted(map(repr, again.entries())) == sorted(map(repr, before))
    again.shut_down()
