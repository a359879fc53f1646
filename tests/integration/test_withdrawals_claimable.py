"""A receiver that cannot take an asset is paid by a claimable balance where the policy has a rule for it, and else refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from stellar_sdk import Asset, ClaimClaimableBalance, Keypair, MuxedAccount

from custody.assets import service as assets
from custody.db.session import Database
from custody.holdings import service as holdings
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, WithdrawalId, new_uuid
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.signing import intents
from custody.wallets import service as wallets
from custody.withdrawals import operations
from custody.withdrawals.errors import DestinationFull, TrustlineMissing
from custody.withdrawals.model import Memo
from devnet.checker.stellar import read_stellar
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served, serve_in_thread
from tests.fakes.signer_people import PASSPHRASE, make_rule
from tests.integration.channel_stage import CHAIN, WALLET, Stage, StageClock, make_network, open_stage

pytestmark = pytest.mark.usefixtures("told_as_promised")

KIND = "stellar_create_claimable_balance"
MOST, RECEIVED, HALF_A_LUMEN = 300, 1000, 5_000_000
ISSUER, LISTED, UNLISTED = Keypair.random(), Keypair.random(), Keypair.random()
ISSUED = Asset("USD", ISSUER.public_key)
USD = parse_asset_id(f"{CHAIN}/USD:{ISSUER.public_key}")


def make_unasked(kind: str, destinations: list[str], amount_max: int) -> dict[str, object]:
    window = {"seconds": 3600, "amount_max": str(10**20), "count_max": 100}
    return make_rule(
        f"unasked-{kind}",
        chain=CHAIN,
        kind=kind,
        asset=USD.reference,
        destinations=destinations,
        amount_max=str(amount_max),
        fee_max="100000",
        windows=[window],
        approvals=[],
    )


@pytest.fixture
def clock() -> StageClock:
    return StageClock()


@pytest.fixture
def served(clock: StageClock) -> Iterator[Served]:
    with serve_in_thread(make_network(clock)) as running:
        yield running


@pytest.fixture
def outsider(served: Served) -> Iterator[Outsider]:
    with Outsider(served.url, drive=True) as client:
        yield client


@pytest.fixture
async def stage(
    database: Database,
    tenant: TenantId,
    served: Served,
    outsider: Outsider,
    tmp_path: Path,
    clock: StageClock,
) -> AsyncIterator[Stage]:
    rules = [
        # It covers all kinds, but not this one: that needs a rule which names it.
        make_rule("all", chain=CHAIN, amount_max=str(10**20), fee_max="100000"),
        make_unasked(KIND, [LISTED.public_key], MOST),
        make_unasked("stellar_change_trust", ["*"], 2**63 - 1),
    ]
    opened = await open_stage(database, tenant, served, outsider, tmp_path, clock, *reversed(rules))
    for keypair in (ISSUER, LISTED, UNLISTED):
        outsider.fund(keypair.public_key)
    yield opened
    await opened.aclose()


async def receive(stage: Stage) -> None:
    """The omnibus vault trusts the asset, and a wallet has some of it."""
    async with stage.db.unit_of_work(None) as uow:
        await assets.register(uow, USD, "USD", 7)
    async with stage.db.unit_of_work(stage.tenant) as uow:
        await operations.request_trustline(
            uow,
            stage.principal,
            WithdrawalId(new_uuid()),
            stage.omnibus.id,
            USD,
            settings=stage.means.settings,
            clock=stage.clock,
        )
        address = (await wallets.list_addresses(uow, WALLET))[0].address
    await stage.settle_all()
    stage.outsider.pay(ISSUER, address, RECEIVED, asset=ISSUED)
    await stage.close()


async def sponsored(stage: Stage) -> int:
    """Reserves that the omnibus vault has locked for others, by our own reading of its account."""
    async with stage.db.read(stage.tenant) as session:
        found = await holdings.find_account(session, stage.omnibus.id, stage.omnibus.account)
    assert found is not None
    assert found[1].minimum == (2 + found[1].subentries + found[1].sponsoring) * HALF_A_LUMEN
    return found[1].sponsoring


async def demand_equal(stage: Stage, *, left: int) -> None:
    """The books have what the chain has, of the asset and of native money."""
    async with stage.db.read(stage.tenant) as session:
        held = (await ledger.balance(session, postings.vault_account(stage.omnibus.id, USD))).posted
        owed = (await ledger.balance(session, postings.wallet_account(WALLET, USD))).available
    assert held == owed == left == stage.outsider.balance(stage.omnibus.account, ISSUED)
    await stage.demand_books_equal_chain()


async def test_who_cannot_take_an_asset_can_claim_it_where_a_rule_says_so(stage: Stage) -> None:
    await receive(stage)
    muxed = MuxedAccount(LISTED.public_key, 7).account_muxed
    for amount, destination, policy in (
        (MOST, UNLISTED.public_key, "no_rule"),
        (MOST + 1, LISTED.public_key, "over_amount_cap"),
        (MOST, muxed, None),
    ):
        with pytest.raises(TrustlineMissing) as refused:
            await stage.request(amount, destination, USD)
        assert refused.value.values.get("policy") == policy

    made = await stage.request(MOST, LISTED.public_key, USD, memo=Memo(type="text", value="rent"))
    shown = intents.show(made.intent)
    assert (shown["kind"], shown["memo"], made.channel_id) == (KIND, "rent", None)
    assert await sponsored(stage) == 0
    await stage.settle_all()
    assert (await stage.state(made), await sponsored(stage)) == ("settled", 1)
    await demand_equal(stage, left=RECEIVED - MOST)

    (attempt,) = await stage.attempts(made)
    (paid,) = [
        each
        for each in read_stellar(
            stage.served.url, CHAIN, PASSPHRASE, frozenset({stage.omnibus.account}), frozenset({USD.text})
        ).payments
        if each.tx_hash == attempt.tx_hash
    ]
    assert (paid.destination, paid.amount, paid.asset) == (LISTED.public_key, MOST, USD.text)
    assert paid.tag == "text:rent"

    # A line that is too small is as good as none. What was set aside is claimed once there is room; then nothing is locked.
    stage.outsider.trust(LISTED, ISSUED, limit_atomic=MOST)
    stage.outsider.send(LISTED, [ClaimClaimableBalance(made_by(stage, attempt.tx_hash))])
    assert stage.outsider.balance(LISTED.public_key, ISSUED) == MOST
    await stage.close()
    assert await sponsored(stage) == 0
    await demand_equal(stage, left=RECEIVED - MOST)
    assert intents.show((await stage.request(1, LISTED.public_key, USD)).intent)["kind"] == KIND
    with pytest.raises(DestinationFull):
        await stage.request(MOST + 1, LISTED.public_key, USD)


def made_by(stage: Stage, tx_hash: str | None) -> str:
    """The claimable balance that a transaction made, by its result."""
    record = stage.served.network.transaction(bytes.fromhex(tx_hash or ""))
    assert record is not None
    (operation,) = record.result.result.results or ()
    return operation.tr.create_claimable_balance_result.balance_id.to_xdr_bytes().hex()
