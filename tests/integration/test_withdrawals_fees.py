"""What a withdrawal costs its wallet: quoted, held beside the amount, charged or released with it, to the unit, in every end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from custody.db.session import Database
from custody.kernel.assetid import AssetId
from custody.kernel.errors import CustodyError
from custody.kernel.ids import CustomerId, QuoteId, TenantId, WalletId, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.errors import InsufficientFunds
from custody.policy.model import Word
from custody.tariffs import service as tariffs
from custody.tariffs.errors import (
    MalformedTariff,
    NetworkCostInOtherAsset,
    QuoteDiffers,
    QuoteExistsDifferent,
    QuoteExpired,
    QuoteUsed,
    UnknownQuote,
)
from custody.tariffs.model import Quote, RequestQuote, Tariff, TariffTerms
from custody.wallets import service as wallets
from custody.withdrawals import service as withdrawals
from custody.withdrawals.errors import WithdrawalExistsDifferent
from custody.withdrawals.model import Withdrawal
from tests.fakes.chain import FEE
from tests.fakes.finality import lapse_due
from tests.fakes.withdrawal_world import ETH, FUNDS, STELLAR, USDC, WALLET, XLM, World

pytestmark = pytest.mark.usefixtures("told_as_promised")

AMOUNT = 1000
FLAT = TariffTerms(kind="flat", flat=77, quote_valid_s=60)
BPS = TariffTerms(kind="bps", bps=33, minimum=1, maximum=10**6, quote_valid_s=60)
PASSED_ON = TariffTerms(kind="network", maximum=150, bps=1000, quote_valid_s=60)
CAPPED = TariffTerms(kind="network", maximum=FEE - 1, quote_valid_s=60)
FREE = TariffTerms(kind="free", quote_valid_s=60)
CHARGED = ((FLAT, 77, 77), (PASSED_ON, 150, 110), (BPS, 4, 4), (CAPPED, 99, 99), (FREE, 0, 0))
"""Terms, what is held of them for AMOUNT, and what is charged once it settles."""


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


async def tariff(world: World, terms: TariffTerms, asset: AssetId = XLM) -> Tariff:
    async with world.db.unit_of_work(world.tenant) as uow:
        return await tariffs.set_tariff(uow, "treasurer", asset, terms)


async def quote(
    world: World, amount: int = AMOUNT, quote_id: QuoteId | None = None, wallet: WalletId = WALLET
) -> Quote:
    wanted = RequestQuote(id=quote_id or QuoteId(new_uuid()), wallet_id=wallet, amount=Amount(XLM, amount))
    async with world.db.unit_of_work(world.tenant) as uow:
        return await tariffs.quote(uow, "maker", wanted, world.clock.now())


async def fees(world: World, asset: AssetId = XLM) -> tuple[int, int]:
    """Fee income posted, and what it may still get."""
    async with world.db.read(world.tenant) as session:
        balance = await ledger.balance(session, postings.fee_income_account(asset))
    return balance.posted, balance.pending_in


async def settles(world: World, made: Withdrawal) -> None:
    assert await world.advance(made) == "broadcasting"
    await world.ingest(made.asset.chain)


async def fails_on_chain(world: World, made: Withdrawal) -> None:
    node = world.chains[made.asset.chain]
    node.fails_on_chain = True
    await settles(world, made)
    node.fails_on_chain = False


async def is_cancelled(world: World, made: Withdrawal) -> None:
    for _ in range(2):
        async with world.db.unit_of_work(world.tenant) as uow:
            await withdrawals.cancel(uow, world.principal, made.id)


async def is_rejected(world: World, made: Withdrawal) -> None:
    await world.decide(made, "carol", Word.REJECT)


async def expires(world: World, made: Withdrawal) -> None:
    world.clock.advance(3600)
    async with world.db.unit_of_work(world.tenant) as uow:
        await withdrawals.expire_due(uow, world.clock.now())


async def is_refused_by_the_signer(world: World, made: Withdrawal) -> None:
    world.signer.refuses_with = "denied_by_rule"
    await world.advance(made)
    world.signer.refuses_with = ""


async def lapses(world: World, made: Withdrawal) -> None:
    node = world.chains[STELLAR]
    node.drops = True
    await world.advance(made)
    bound = (await world.view(made)).attempts[-1].max_ledger or 0
    node.height = bound
    async with world.db.unit_of_work(world.tenant) as uow:
        await lapse_due(uow, STELLAR, bound)
    node.drops = False
    world.clock.advance(600)
    await world.ingest(STELLAR)


ENDS: dict[str, tuple[Callable[[World, Withdrawal], Awaitable[None]], str]] = {
    "settles": (settles, "settled"),
    "fails on chain": (fails_on_chain, "failed"),
    "is cancelled": (is_cancelled, "cancelled"),
    "is rejected": (is_rejected, "rejected"),
    "is refused": (is_refused_by_the_signer, "failed"),
    "lapses": (lapses, "failed"),
    "expires": (expires, "expired"),
}


async def test_in_every_end_what_was_held_is_charged_or_released_to_the_unit(world: World) -> None:
    paid = income = network = 0
    for name, (end, state) in ENDS.items():
        for terms, held, charged in CHARGED if name == "settles" else CHARGED[:2]:
            in_force = await tariff(world, terms)
            made = await world.request(XLM, AMOUNT, approve=("alice", "bob"))
            assert made.fee is not None
            assert (made.fee.held, made.fee.charged, made.fee.tariff_version) == (
                held,
                None,
                in_force.version,
            )
            assert await fees(world) == (income, held), name
            assert (await world.money())[:2] == (FUNDS - paid, AMOUNT + held), name
            await end(world, made)
            ended = (await world.view(made)).withdrawal
            assert (ended.state, ended.fee is not None) == (state, True), (name, terms)
            took = charged if state == "settled" else 0
            paid += took + (AMOUNT if state == "settled" else 0)
            income += took
            network += FEE if end in (settles, fails_on_chain) else 0
            assert ended.fee is not None
            assert ended.fee.charged == took, (name, terms)
            # Nothing stays held, and the vault holds what the wallet, our income and the network's bill leave of it.
            assert await fees(world) == (income, 0), (name, terms)
            wallet = FUNDS - paid
            assert await world.money() == (wallet, 0, wallet + income - network, network), (name, terms)


async def test_the_tariff_in_force_is_applied_and_free_where_there_is_none(world: World) -> None:
    assert (await world.request(XLM, AMOUNT)).fee is None
    await tariff(world, FLAT, ETH)
    made = await world.request(ETH, AMOUNT, approve=("alice", "bob"))
    # A newer tariff is for what is asked for later.
    assert (await tariff(world, BPS, ETH)).version == 2
    assert (await tariff(world, BPS, ETH)).version == 2
    await settles(world, made)
    assert await fees(world, ETH) == (77, 0)
    own = WalletId(new_uuid())
    async with world.db.unit_of_work(world.tenant) as uow:
        treasury = CustomerId(new_uuid())
        await wallets.create_customer(
            uow, "test", treasury, name="House", external_ref="house", kind="treasury"
        )
        await wallets.create_wallet(uow, "test", own, treasury, "own")
        assert await tariffs.agree(uow, own, Amount(ETH, AMOUNT), None, world.clock.now()) is None


async def test_a_wallet_must_have_amount_and_fee_or_nothing_is_held(world: World) -> None:
    await tariff(world, TariffTerms(kind="flat", flat=FUNDS - AMOUNT + 1, quote_valid_s=60))
    with pytest.raises(InsufficientFunds):
        await world.request(XLM, AMOUNT)
    assert (await world.money(), await fees(world)) == ((FUNDS, 0, FUNDS, 0), (0, 0))
    await tariff(world, TariffTerms(kind="flat", flat=FUNDS - AMOUNT, quote_valid_s=60))
    assert (await world.request(XLM, AMOUNT)).fee is not None


async def test_a_quote_binds_for_its_time_one_withdrawal_of_its_wallet_and_amount(world: World) -> None:
    await tariff(world, FLAT)
    given = await quote(world)
    assert await quote(world, quote_id=given.id) == given
    with pytest.raises(QuoteExistsDifferent):
        await quote(world, AMOUNT + 1, given.id)
    await tariff(world, BPS)
    other = WalletId(new_uuid())
    async with world.db.unit_of_work(world.tenant) as uow:
        ada = (await wallets.get_wallet(uow, WALLET)).customer_id
        await wallets.create_wallet(uow, "test", other, ada, "other")

    async def refused(error: type[CustodyError], **changes: object) -> None:
        with pytest.raises(error):
            await world.request(**({"amount": AMOUNT, "quote_id": given.id} | changes))  # type: ignore[arg-type]  # a table
        assert (await fees(world))[1] == 0

    await refused(QuoteDiffers, amount=AMOUNT + 1)
    await refused(QuoteDiffers, wallet_id=other)
    await refused(UnknownQuote, quote_id=QuoteId(new_uuid()))
    world.clock.advance(60)
    await refused(QuoteExpired)
    world.clock.advance(-1)
    made = await world.request(XLM, AMOUNT, quote_id=given.id)
    assert made.fee is not None
    assert (made.fee.held, made.fee.quote_id, made.fee.kind) == (77, given.id, "flat")
    world.clock.advance(3600)
    again = await world.request(XLM, AMOUNT, quote_id=given.id, id=made.id)
    assert (again.digest, await fees(world)) == (made.digest, (0, 77))
    with pytest.raises(WithdrawalExistsDifferent):
        await world.request(XLM, AMOUNT, id=made.id)
    world.clock.advance(-3600)
    with pytest.raises(QuoteUsed):
        await world.request(XLM, AMOUNT, quote_id=given.id)


MISFITS: tuple[tuple[AssetId, dict[str, object], type[CustodyError]], ...] = (
    (USDC, {"kind": "network", "maximum": 5}, NetworkCostInOtherAsset),
    (XLM, {"kind": "network"}, MalformedTariff),
    (XLM, {"kind": "network", "maximum": 5, "flat": 1}, MalformedTariff),
    (XLM, {"kind": "flat", "flat": -1}, MalformedTariff),
    (XLM, {"kind": "flat", "flat": 1, "bps": 1}, MalformedTariff),
    (XLM, {"kind": "bps", "bps": 10_001}, MalformedTariff),
    (XLM, {"kind": "bps", "bps": 1, "minimum": 6, "maximum": 5}, MalformedTariff),
    (XLM, {"kind": "free", "flat": 1}, MalformedTariff),
    (XLM, {"kind": "flat", "flat": 1, "quote_valid_s": 0}, MalformedTariff),
)


async def test_terms_that_do_not_fit_their_kind_are_refused(world: World) -> None:
    for asset, changes, error in MISFITS:
        with pytest.raises(error):
            await tariff(world, TariffTerms(**({"quote_valid_s": 60} | changes)), asset)  # type: ignore[arg-type]  # a table
    async with world.db.read(world.tenant) as session:
        assert await tariffs.list_tariffs(session) == []
