"""The worker's loop on a real anvil: deposits become final, reorganisations take back what they must, nothing counts twice."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from eth_account import Account

from custody.chains.evm.address import checksum
from custody.chains.evm.rpc import EvmRpc
from custody.chains.jsonrpc import JsonRpc
from custody.chains.ports import SubmissionStatus
from custody.db.session import Database
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId
from devnet.anvil import CHAIN_ID
from devnet.evm import Outsider
from ingestion.evm.worker import build_source
from ingestion.loop import Loop
from ingestion.ports import ChainSource
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.evm_stage import CHAIN, ETH, evm_settings, node, outsider
from tests.integration.ingestion_harness import (
    OMNIBUS_REQUEST,
    Desk,
    build_loop,
    catch_up,
    decide_halt,
    take_fence,
)

__all__ = ["node", "outsider"]

CONFIRMATIONS = 2

pytestmark = pytest.mark.stack


@pytest.fixture
async def desk(database: Database, tenant: TenantId) -> Desk:
    """A tenant that lists ether."""
    made = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await made.list_asset(ETH, "ETH", 18)
    return made


@pytest.fixture
async def source(node: str, desk: Desk) -> AsyncIterator[ChainSource]:
    """The node's blocks."""
    settings = evm_settings(node, confirmations=CONFIRMATIONS)
    opened = build_source(settings, desk.db)
    yield opened
    await opened.aclose()


async def start(desk: Desk, source: ChainSource) -> Loop:
    await source.verify_network()
    return build_loop(desk.db, source, await take_fence(desk.db, CHAIN), confirmations=CONFIRMATIONS)


async def test_ether_and_tokens_are_credited_after_the_confirmations_and_books_equal_the_chain(
    desk: Desk, source: ChainSource, outsider: Outsider, node: str
) -> None:
    loop = await start(desk, source)
    ada, treasury = await desk.open_wallet("ada"), await desk.open_wallet("acme", "treasury")
    omnibus = await desk.open_omnibus()
    to_ada, to_treasury = await desk.issue_address(ada), await desk.issue_address(treasury)
    assert to_treasury.address == omnibus.account
    token = checksum(await outsider.deploy_token())
    usd = parse_asset_id(f"{CHAIN}/erc20:{token}")
    await desk.list_asset(usd, "TUSD", 6)
    await outsider.send_ether(to_ada.address, 10**18)
    await outsider.mint(token, to_ada.address, 2_000)
    await outsider.mint(token, await outsider.address(), 500)
    await outsider.send_tokens(token, to_treasury.address, 300)
    await catch_up(loop)
    # Blocks 2 and 3 have their confirmations; block 5 is the newest.
    assert [each.state for each in await desk.deposits()] == ["credited", "credited", "observed"]
    assert await desk.owed(treasury, usd) == 0
    await outsider.mine(CONFIRMATIONS)
    await catch_up(loop)
    assert (await desk.owed(ada, ETH), await desk.owed(ada, usd)) == (10**18, 2_000)
    assert await desk.owed(treasury, usd) == 300
    client = EvmRpc(CHAIN, JsonRpc(node), CHAIN_ID)
    final = await desk.final_height()
    for asset in (ETH, usd):
        seen = await client.balance(omnibus.account, asset, final)
        assert (seen.amount, seen.height) == (await desk.held(omnibus, asset), final)
    await client.aclose()


async def test_a_reorganisation_before_finality_orphans_and_a_returning_transaction_is_the_same_deposit(
    desk: Desk, source: ChainSource, outsider: Outsider
) -> None:
    loop = await start(desk, source)
    ada = await desk.open_wallet("ada")
    address = await desk.issue_address(ada)
    snapshot = await outsider.call("evm_snapshot")
    lost = await outsider.send_ether(address.address, 7)
    raw = await outsider.call("eth_getRawTransactionByHash", lost.tx_hash)
    await catch_up(loop)
    assert [each.state for each in await desk.deposits()] == ["observed"]
    await outsider.call("evm_revert", snapshot)
    await outsider.mine(3)
    await catch_up(loop)
    assert [each.state for each in await desk.deposits()] == ["orphaned"]
    assert await desk.owed(ada, ETH) == 0
    await outsider.call("eth_sendRawTransaction", raw)
    await outsider.mine(CONFIRMATIONS)
    await catch_up(loop)
    found = await desk.deposits()
    assert [(each.state, each.inclusion, each.transfer.tx_hash) for each in found] == [
        ("credited", 2, lost.tx_hash)
    ]
    assert await desk.owed(ada, ETH) == 7


async def test_a_chain_that_became_shorter_is_followed_back(
    desk: Desk, source: ChainSource, outsider: Outsider
) -> None:
    loop = await start(desk, source)
    ada = await desk.open_wallet("ada")
    address = await desk.issue_address(ada)
    snapshot = await outsider.call("evm_snapshot")
    await outsider.send_ether(address.address, 7)
    await outsider.mine(5)
    await catch_up(loop)
    assert await desk.owed(ada, ETH) == 7
    await outsider.call("evm_revert", snapshot)
    await outsider.call("evm_increaseTime", 100)
    await outsider.send_ether(address.address, 5)
    await catch_up(loop)
    assert await desk.owed(ada, ETH) == 7
    await decide_halt(desk.db, CHAIN, follow=True)
    await catch_up(loop)
    assert await desk.owed(ada, ETH) == 0
    await outsider.mine(CONFIRMATIONS)
    await catch_up(loop)
    assert await desk.owed(ada, ETH) == 5


async def test_transactions_of_our_vaults_pay_their_fee_and_every_submission_ends_typed(
    desk: Desk, source: ChainSource, outsider: Outsider, node: str
) -> None:
    loop = await start(desk, source)
    treasury = await desk.open_wallet("acme", "treasury")
    omnibus = await desk.open_omnibus()
    await desk.issue_address(treasury)
    await outsider.send_ether(omnibus.account, 10**18)
    client = EvmRpc(CHAIN, JsonRpc(node), CHAIN_ID)
    quote = await client.fees()
    assert quote.max_fee_per_gas_wei > quote.max_priority_fee_per_gas_wei > 0

    def signed(nonce: int, value: int) -> tuple[bytes, str]:
        made = Account.sign_transaction(
            {
                "type": 2,
                "chainId": CHAIN_ID,
                "nonce": nonce,
                "to": "0x" + "12" * 20,
                "value": value,
                "gas": 21_000,
                "maxFeePerGas": quote.max_fee_per_gas_wei,
                "maxPriorityFeePerGas": quote.max_priority_fee_per_gas_wei,
            },
            (OMNIBUS_REQUEST.bytes * 2),
        )
        return bytes(made.raw_transaction), "0x" + bytes(made.hash).hex()

    assert await client.next_sequence(omnibus.account) == 0
    tx, tx_hash = signed(0, 1_000)
    assert (await client.submit(tx, tx_hash)).status is SubmissionStatus.ACCEPTED
    await outsider.mine(1)
    # Mined: the node calls the nonce too low, and knows the transaction.
    assert (await client.submit(tx, tx_hash)).status is SubmissionStatus.ACCEPTED
    other = await client.submit(*signed(0, 2_000))
    assert (other.status, other.code) == (SubmissionStatus.UNKNOWN, "nonce_too_low")
    poor = await client.submit(*signed(1, 10**20))
    assert (poor.status, poor.code) == (SubmissionStatus.REFUSED, "insufficient_funds")
    assert await client.next_sequence(omnibus.account) == 1
    await outsider.mine(CONFIRMATIONS)
    await catch_up(loop)
    final = await desk.final_height()
    seen = await client.balance(omnibus.account, ETH, final)
    await client.aclose()
    # The stray's fee is booked; its amount is not, which is what reconciliation has to show.
    assert await desk.held(omnibus, ETH) - seen.amount == 1_000
