"""The worker's loop on a real local Stellar network: what arrives is credited, once, to whom it names."""

from __future__ import annotations

import asyncio

import pytest
from stellar_sdk import (
    Asset,
    AuthorizationFlag,
    Claimant,
    Clawback,
    CreateClaimableBalance,
    HashMemo,
    IdMemo,
    Keypair,
    Payment,
    TextMemo,
)

from custody.chains.jsonrpc import JsonRpc
from custody.chains.stellar.rpc import StellarRpc
from custody.kernel.assetid import parse_asset_id
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served
from ingestion.errors import BrokenHashChain, FenceLost
from ingestion.stellar.sources import RpcLedgers
from tests.integration.ingestion_harness import (
    OMNIBUS_REQUEST,
    Desk,
    build_loop,
    catch_up,
    take_fence,
)
from tests.integration.stellar_stage import CHAIN, XLM, desk, outsider, served, source

__all__ = ["desk", "outsider", "served", "source"]


pytestmark = pytest.mark.stack


def vault_key() -> Keypair:
    """The fake key maker's private half of the omnibus vault: tests sign with it what the signer would."""
    return Keypair.from_raw_ed25519_seed(OMNIBUS_REQUEST.bytes * 2)


async def test_arrivals_are_credited_by_tag_and_memo_and_books_equal_the_chain(
    desk: Desk, source: RpcLedgers, outsider: Outsider, served: Served
) -> None:
    await source.verify_network()
    loop = build_loop(desk.db, source, await take_fence(desk.db, CHAIN))
    ada, bob = await desk.open_wallet("ada"), await desk.open_wallet("bob")
    vault = await desk.open_omnibus()
    to_ada, to_bob = await desk.issue_address(ada), await desk.issue_address(bob)

    def pay() -> None:
        outsider.fund(vault.account)
        payer = outsider.new_account()
        outsider.pay(payer, to_ada.address, 500)
        outsider.pay(payer, vault.account, 70, memo=IdMemo(to_bob.tag))
        # The muxed id of the address counts, not the memo.
        outsider.pay(payer, to_ada.address, 3, memo=IdMemo(to_bob.tag))
        outsider.pay(payer, vault.account, 11, memo=TextMemo(b"for Ada\x00"))
        outsider.pay(payer, vault.account, 13, memo=HashMemo(b"\x07" * 32))
        outsider.pay(payer, vault.account, 17, memo=IdMemo(2**64 - 1))

    await asyncio.to_thread(pay)
    await catch_up(loop)
    await catch_up(loop)
    assert await desk.owed(ada, XLM) == 503
    assert await desk.owed(bob, XLM) == 70
    funded = 10_000 * 10**7
    assert await desk.suspended(XLM) == funded + 11 + 13 + 17
    found = await desk.deposits()
    assert {each.state for each in found} == {"credited", "suspended"}
    assert [each.transfer.memo for each in found if each.transfer.memo] == [
        "bytes:" + b"for Ada\x00".hex(),
        "hash:" + "07" * 32,
    ]
    client = StellarRpc(CHAIN, JsonRpc(served.url), served.network.passphrase)
    final = await desk.final_height()
    seen = await client.balance(vault.account, XLM, final)
    await client.aclose()
    assert (seen.amount, seen.height) == (await desk.held(vault, XLM), final)


async def test_one_memo_covers_every_payment_of_its_transaction(
    desk: Desk, source: RpcLedgers, outsider: Outsider
) -> None:
    ada = await desk.open_wallet("ada")
    vault = await desk.open_omnibus()
    address = await desk.issue_address(ada)

    def pay() -> None:
        outsider.fund(vault.account)
        payer = outsider.new_account()
        operations = [Payment(vault.account, Asset.native(), str(n)) for n in (1, 2, 3)]
        outsider.send(payer, operations, memo=IdMemo(address.tag))

    await asyncio.to_thread(pay)
    await catch_up(build_loop(desk.db, source, await take_fence(desk.db, CHAIN)))
    assert await desk.owed(ada, XLM) == 6 * 10**7
    ordinals = [each.transfer.ordinal for each in await desk.deposits() if each.wallet_id == ada]
    assert ordinals == [1 << 16, 2 << 16, 3 << 16]


async def test_credit_assets_count_only_when_listed_and_own_transactions_are_booked(
    desk: Desk, source: RpcLedgers, outsider: Outsider
) -> None:
    ada = await desk.open_wallet("ada")
    vault = await desk.open_omnibus()
    address = await desk.issue_address(ada)

    def pay() -> tuple[str, str]:
        outsider.fund(vault.account)
        listed = outsider.issue_asset("USDC", flags=AuthorizationFlag(10))
        spam = outsider.issue_asset("SPAM")
        for issued, amount in ((listed, 900), (spam, 5)):
            outsider.trust(vault_key(), issued.asset)
            outsider.pay(issued.issuer, address.address, amount, asset=issued.asset)
        # A claimable balance is no deposit: it is nobody's until it is claimed.
        outsider.send(
            listed.issuer,
            [CreateClaimableBalance(listed.asset, "1", [Claimant(vault.account)])],
        )
        outsider.send(listed.issuer, [Clawback(listed.asset, vault.account, "0.0000001")])
        return listed.issuer.public_key, spam.issuer.public_key

    issuer, spammer = await asyncio.to_thread(pay)
    usdc = parse_asset_id(f"stellar:devnet/USDC:{issuer}")
    spam = parse_asset_id(f"stellar:devnet/SPAM:{spammer}")
    await desk.list_asset(usdc, "USDC", 7)
    await catch_up(build_loop(desk.db, source, await take_fence(desk.db, CHAIN)))
    assert await desk.owed(ada, usdc) == 900
    found = {each.transfer.asset: each.state for each in await desk.deposits()}
    assert found == {usdc: "credited", XLM: "suspended", spam: "unlisted"}
    assert await desk.owed(ada, spam) == 0
    # Two trustlines were paid for by the vault itself.
    assert await desk.held(vault, XLM) == 10_000 * 10**7 - 200


async def test_a_ledger_with_another_parent_stops_the_worker(
    desk: Desk, source: RpcLedgers, served: Served
) -> None:
    loop = build_loop(desk.db, source, await take_fence(desk.db, CHAIN))
    await catch_up(loop)
    served.network.close()
    served.network.order_faults({"wrong_parent_next": 1})
    with pytest.raises(BrokenHashChain):
        await loop.step()
    await catch_up(loop)
    assert await desk.final_height() == served.network.latest.sequence


async def test_empty_ledgers_move_the_cursor(desk: Desk, source: RpcLedgers, served: Served) -> None:
    loop = build_loop(desk.db, source, await take_fence(desk.db, CHAIN))
    for _ in range(25):
        served.network.close()
    await catch_up(loop)
    assert await desk.final_height() == served.network.latest.sequence


async def test_a_worker_that_lost_the_fence_writes_nothing_more(
    desk: Desk, source: RpcLedgers, served: Served
) -> None:
    slow = build_loop(desk.db, source, await take_fence(desk.db, CHAIN))
    await catch_up(slow)
    quick = build_loop(desk.db, source, await take_fence(desk.db, CHAIN))
    served.network.close()
    with pytest.raises(FenceLost):
        await slow.step()
    await catch_up(quick)
    assert await desk.final_height() == served.network.latest.sequence
