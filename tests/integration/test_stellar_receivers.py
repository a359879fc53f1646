"""How a receiver stands, read from real ledger entries of the local network, at every state that a payment can meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from stellar_sdk import AuthorizationFlag, Keypair, ManageData, SetTrustLineFlags, TrustLineFlags

from custody.chains.errors import RpcUnreadable
from custody.chains.jsonrpc import JsonRpc
from custody.chains.stellar.receivers import Receiver
from custody.chains.stellar.rpc import StellarRpc
from custody.kernel.assetid import AssetId, ChainId, native
from devnet.stellar.network import LocalNetwork
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served, serve_in_thread
from tests.fakes.rpc_node import run_node

CHAIN = ChainId("stellar:devnet")
XLM = native(CHAIN)
FUNDED = 10_000 * 10**7


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serve_in_thread(LocalNetwork()) as running:
        yield running


@pytest.fixture
def outsider(served: Served) -> Iterator[Outsider]:
    with Outsider(served.url, drive=True) as client:
        yield client


@pytest.fixture
async def stellar(served: Served) -> AsyncIterator[StellarRpc]:
    client = StellarRpc(CHAIN, JsonRpc(served.url), served.network.passphrase)
    yield client
    await client.aclose()


async def test_native_money_needs_an_account_and_room(
    served: Served, outsider: Outsider, stellar: StellarRpc
) -> None:
    nobody = Keypair.random().public_key
    found = await stellar.receiver(nobody, XLM)
    assert found == Receiver(
        exists=False,
        trusts=True,
        authorized=True,
        room=0,
        memo_required=False,
        height=served.network.latest.sequence,
    )
    holder = await asyncio.to_thread(outsider.new_account)
    found = await stellar.receiver(holder.public_key, XLM)
    assert (found.exists, found.room, found.memo_required) == (True, 2**63 - 1 - FUNDED, False)
    wish = ManageData("config.memo_required", b"1")
    await asyncio.to_thread(outsider.send, holder, [wish])
    assert (await stellar.receiver(holder.public_key, XLM)).memo_required


async def test_a_credit_asset_needs_a_line_the_issuers_leave_and_room(
    outsider: Outsider, stellar: StellarRpc
) -> None:
    flags = AuthorizationFlag.AUTHORIZATION_REQUIRED | AuthorizationFlag.AUTHORIZATION_REVOCABLE
    issued = await asyncio.to_thread(outsider.issue_asset, "EURX", flags=flags)
    asset = AssetId(CHAIN, f"EURX:{issued.issuer.public_key}")
    holder = await asyncio.to_thread(outsider.new_account)

    async def look() -> tuple[bool, bool, int]:
        found = await stellar.receiver(holder.public_key, asset)
        assert found.exists
        return found.trusts, found.authorized, found.room

    assert await look() == (False, False, 0)
    await asyncio.to_thread(outsider.trust, holder, issued.asset, limit_atomic=1000)
    assert await look() == (True, False, 1000)
    for flag, allowed in (
        (TrustLineFlags.AUTHORIZED_FLAG, True),
        (TrustLineFlags.AUTHORIZED_TO_MAINTAIN_LIABILITIES_FLAG, False),
    ):
        other = TrustLineFlags.AUTHORIZED_FLAG ^ TrustLineFlags.AUTHORIZED_TO_MAINTAIN_LIABILITIES_FLAG ^ flag
        change = SetTrustLineFlags(holder.public_key, issued.asset, clear_flags=other, set_flags=flag)
        await asyncio.to_thread(outsider.send, issued.issuer, [change])
        assert await look() == (True, allowed, 1000)
    leave = SetTrustLineFlags(
        holder.public_key,
        issued.asset,
        clear_flags=TrustLineFlags.AUTHORIZED_TO_MAINTAIN_LIABILITIES_FLAG,
        set_flags=TrustLineFlags.AUTHORIZED_FLAG,
    )
    await asyncio.to_thread(outsider.send, issued.issuer, [leave])
    await asyncio.to_thread(outsider.pay, issued.issuer, holder.public_key, 400, asset=issued.asset)
    assert await look() == (True, True, 600)
    # The issuer itself needs no line: what comes back to it is gone.
    found = await stellar.receiver(issued.issuer.public_key, asset)
    assert (found.trusts, found.authorized, found.room > 10**15) == (True, True, True)


async def test_a_node_that_answers_with_other_entries_is_not_believed() -> None:
    async with run_node() as node:
        client = StellarRpc(CHAIN, JsonRpc(node.url), "passphrase")
        strange = {"key": "AAAA", "xdr": "AAAA", "lastModifiedLedgerSeq": 1}
        node.result("getLedgerEntries", {"latestLedger": 5, "entries": [strange]})
        with pytest.raises(RpcUnreadable):
            await client.receiver(Keypair.random().public_key, XLM)
        await client.aclose()
