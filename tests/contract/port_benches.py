"""Where the contract suites find a signer and chains: fakes in memory, or a SoftHSM signer, a local Stellar network and anvil.

Both kinds answer the same questions here, so that each suite is written once.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from custody.chains.ports import ChainClient
from custody.chains.registry import build_client
from custody.kernel.assetid import ChainId, native
from custody.kernel.clock import SystemClock
from custody.kernel.ids import TenantId, new_uuid
from custody.policy.model import ApprovalPolicy, Word
from custody.signing import intents
from custody.signing.client import SignerClient
from custody.signing.intent_fields import EvmCaps, Source, StellarCaps
from custody.signing.model import EvmSlot, SignedTransaction, Slot, StellarSlot
from custody.withdrawals.ports import Signer
from devnet import anvil
from devnet.evm import Outsider as EvmOutsider
from devnet.ports import choose_port
from devnet.processes import answers
from devnet.stellar.outsider import Outsider as StellarOutsider
from tests.fakes.chain import FakeChain
from tests.fakes.faults import Faults
from tests.fakes.signer import FakeSigner
from tests.fakes.signer_people import PASSPHRASE, make_policy, make_rule
from tests.fakes.withdrawal_world import EVM, OUTSIDE, STELLAR, VAULT_ACCOUNT, make_decision, make_settings
from tests.fakes.withdrawal_world import make_policy as make_copy
from tests.integration.signer_harness import MODULE, SignerProcess

ROOT = Path(__file__).parents[2]
WAIT_S = 60
COOL_DOWN_S = 2


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of the signer."""

    key_id: str
    account: str


class Bench(Protocol):
    """A signer, and one chain that closes blocks when told."""

    signer: Signer

    async def make_key(self, chain: ChainId, purpose: str = "omnibus") -> Key:
        """A fresh key. What keys of the purpose `slow` sign cools down for COOL_DOWN_S first."""
        ...


@dataclass(kw_only=True)
class ChainBench:
    """One chain under test, with a signer whose key has money there."""

    signer: Signer
    client: ChainClient
    key: Key

    @property
    def chain(self) -> ChainId:
        return self.client.chain

    async def close_block(self) -> None:
        """The network closes one block."""
        raise AssertionError("each bench closes blocks in its own way")

    async def sign(self, sequence: int) -> SignedTransaction:
        """A small payment with this sequence or nonce."""
        intent = make_intent(self.key, self.chain)
        head = await self.client.head()
        decisions = [make_decision(intent, name) for name in ("alice", "bob")]
        return await self.signer.sign(intent, decisions, make_slot(self.chain, sequence, head.height + 50))


class FakeBench:
    """Fakes in memory."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.signer: Signer = FakeSigner(_with_slow_rule(make_copy()), SystemClock(), self.faults)

    async def make_key(self, chain: ChainId, purpose: str = "omnibus") -> Key:
        del purpose
        return Key(key_id=new_uuid().hex, account=VAULT_ACCOUNT[chain])


def _with_slow_rule(policy: ApprovalPolicy) -> ApprovalPolicy:
    rule = policy.allow[0]
    scope = replace(rule.scope, id="slow", vault="slow", kind="*")
    return replace(policy, allow=(replace(rule, scope=scope, cool_down_s=COOL_DOWN_S), *policy.allow))


class RealBench:
    """A signer process on a SoftHSM token."""

    def __init__(self, process: SignerProcess) -> None:
        self.client = SignerClient(str(process.directory / "s.sock"), timeout_s=30)
        self.signer: Signer = self.client

    async def make_key(self, chain: ChainId, purpose: str = "omnibus") -> Key:
        made = await self.client.create_key(
            request_id=new_uuid(), tenant=TenantId(1), purpose=purpose, chain=chain
        )
        return Key(key_id=made.key_id, account=made.account)


class FakeChainBench(ChainBench):
    """A fake chain."""

    async def close_block(self) -> None:
        assert isinstance(self.client, FakeChain)
        self.client.close_block()


@dataclass(kw_only=True)
class StellarBench(ChainBench):
    """The local Stellar network as a process that closes ledgers by call."""

    url: str

    async def close_block(self) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            (await http.post(f"{self.url}/devnet/close")).raise_for_status()


@dataclass(kw_only=True)
class EvmBench(ChainBench):
    """anvil without a clock of its own."""

    url: str

    async def close_block(self) -> None:
        async with EvmOutsider(self.url) as outsider:
            await outsider.mine()


def start_signer(folder: Path) -> SignerProcess:
    """A running signer; skips where SoftHSM is not installed."""
    if not MODULE.exists():
        pytest.skip("needs softhsm2")
    process = SignerProcess(folder)
    allow = [
        make_rule(f"slow-{chain}", vault="slow", chain=str(chain), cool_down_s=COOL_DOWN_S)
        for chain in (STELLAR, EVM)
    ]
    process.prepare(make_policy(allow=[*allow, *make_policy()["allow"]]))  # type: ignore[misc]  # JSON
    process.start()
    return process


@asynccontextmanager
async def open_chain(
    chain: ChainId, signers: FakeBench | RealBench, folder: Path
) -> AsyncIterator[ChainBench]:
    """The chain that goes with this signer: fake with fake, real with real."""
    key = await signers.make_key(chain)
    if isinstance(signers, FakeBench):
        yield FakeChainBench(signer=signers.signer, client=FakeChain(chain, signers.faults), key=key)
    elif chain == STELLAR:
        async with _stellar(signers, key, folder) as bench:
            yield bench
    else:
        async with _evm(signers, key, folder) as bench:
            yield bench


@asynccontextmanager
async def _stellar(signers: RealBench, key: Key, folder: Path) -> AsyncIterator[ChainBench]:
    command = [
        sys.executable,
        "-m",
        "devnet.stellar.main",
        "--port",
        "0",
        "--state-dir",
        str(folder),
        "--manual",
        "--passphrase",
        PASSPHRASE,
    ]
    child = await asyncio.to_thread(subprocess.Popen, command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        line = await asyncio.to_thread(child.stdout.readline)
        url = line.split("stellar devnet at ")[1].split(",")[0]
        await asyncio.to_thread(_fund_stellar, url, key.account)
        client = build_client(_chain_settings(STELLAR, url))
        yield StellarBench(signer=signers.signer, client=client, key=key, url=url)
        await client.aclose()
    finally:
        child.kill()
        child.communicate()


def _fund_stellar(url: str, account: str) -> None:
    with StellarOutsider(url, drive=True) as outsider:
        outsider.fund(account)
        outsider.fund(OUTSIDE[STELLAR])


@asynccontextmanager
async def _evm(signers: RealBench, key: Key, folder: Path) -> AsyncIterator[ChainBench]:
    port = choose_port("anvil", None, set(), lambda _: None)
    spec = anvil.anvil_spec(ROOT, folder, port, block_time_s=None)
    child = await asyncio.to_thread(
        subprocess.Popen,
        [*spec.argv, "--no-mining"],
        env=dict(spec.env),
        cwd=spec.cwd,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + WAIT_S
        while not await asyncio.to_thread(answers, spec.ready):
            assert time.monotonic() < deadline, "anvil did not start"
            await asyncio.sleep(0.05)
        url = anvil.url(port)
        async with EvmOutsider(url) as outsider:
            await outsider.call("anvil_setBalance", key.account, hex(10**18))
            await outsider.mine()
        client = build_client(_chain_settings(EVM, url))
        yield EvmBench(signer=signers.signer, client=client, key=key, url=url)
        await client.aclose()
    finally:
        child.kill()
        child.wait()


def _chain_settings(chain: ChainId, url: str):
    return make_settings().chain(chain).model_copy(update={"rpc_url": url})


def make_source(key: Key, chain: ChainId, *, valid_s: int = 3600, purpose: str = "omnibus") -> Source:
    """This key's vault, asking now."""
    now = int(time.time())
    return Source(
        tenant=TenantId(1),
        purpose=purpose,
        key_id=key.key_id,
        chain=chain,
        account=key.account,
        request_id=new_uuid(),
        initiator="maker",
        policy_version=1,
        not_before=now - 60,
        expires_at=now + valid_s,
    )


def make_intent(
    key: Key, chain: ChainId, *, valid_s: int = 3600, amount: int = 5, purpose: str = "omnibus"
) -> bytes:
    """A small payment, with an id of its own."""
    source = make_source(key, chain, valid_s=valid_s, purpose=purpose)
    stellar = StellarCaps(network_passphrase=PASSPHRASE, max_fee=10_000)
    evm = EvmCaps(chain_id=31337, gas_limit=21_000, max_fee_per_gas=10**11, max_priority_fee_per_gas=10**10)
    return intents.build_payment_intent(
        source,
        stellar if chain == STELLAR else evm,
        asset=native(chain),
        amount=amount,
        destination=OUTSIDE[chain],
    )


def make_slot(chain: ChainId, sequence: int, max_ledger: int = 2**31) -> Slot:
    """A slot with bounds that hold for the length of a test."""
    if chain == STELLAR:
        return StellarSlot(
            sequence=sequence, max_time=int(time.time()) + 600, max_ledger=max_ledger, fee=1000
        )
    return EvmSlot(nonce=sequence, max_fee_per_gas=10**10, max_priority_fee_per_gas=10**9)


def move_slot(slot: Slot) -> Slot:
    """Another slot of the same kind."""
    if isinstance(slot, StellarSlot):
        return replace(slot, sequence=slot.sequence + 1)
    return replace(slot, nonce=slot.nonce + 1)


def veto(intent: bytes):
    """Carol's rejection."""
    return make_decision(intent, "carol", Word.REJECT)
