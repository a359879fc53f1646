"""Exchange one asset for another inside the books, at a rate that the caller states and answers for.

What is sold goes into our position in that asset, what is bought comes out of our position in the other: two legs and, where a
fee is charged, a third, in one chain. Whether we hold enough of the bought asset to pay it out is not asked here: the position
shows in the report as clearing, and what leaves by chain or bank is held against the vault or account that pays it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.exchanges import store
from custody.exchanges.errors import BadQuoteTime, ExchangeExistsDifferent, ExchangeReversed, UnknownExchange
from custody.exchanges.model import Exchange, RequestExchange
from custody.identity.model import Principal
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import ExchangeId
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.errors import AlreadyReversed
from custody.ledger.model import Outcome
from custody.switches import service as switches
from custody.switches.model import of_asset, of_customer
from custody.wallets import service as wallets

AHEAD_MAX = timedelta(minutes=1)
"""How far a source's clock may be ahead of ours."""


async def request(uow: UnitOfWork, principal: Principal, wanted: RequestExchange, now: datetime) -> Exchange:
    """Book the exchange, its fee and its rate, all or nothing. Idempotent by id.

    Raises UnknownWallet, UnknownAsset, SameAsset, BadQuoteTime, ExchangeTooSmall, AmountTooLarge, InsufficientFunds,
    ExchangeExistsDifferent, StoppedBySwitch. Locks the ledger accounts.
    """
    if wanted.rate.quoted_at > now + AHEAD_MAX:
        raise BadQuoteTime(quoted_at=wanted.rate.quoted_at.isoformat())
    bought = wanted.rate.convert(wanted.sold, wanted.bought_asset, rounding=wanted.rounding)
    source = await wallets.get_wallet(uow, wanted.source_wallet_id)
    destination = await wallets.get_wallet(uow, wanted.destination_wallet_id)
    known = await store.load_exchange(uow, wanted.id)
    if known is not None:
        return _same(known, wanted)
    customers = {source.customer_id, destination.customer_id}
    switch = await switches.find_stopped(
        uow, [*of_asset(wanted.sold.asset), *of_asset(bought.asset), *map(of_customer, customers)]
    )
    outcomes = await ledger.post(
        uow,
        *postings.exchanged(
            exchange_id=wanted.id,
            source_wallet_id=wanted.source_wallet_id,
            destination_wallet_id=wanted.destination_wallet_id,
            sold=wanted.sold,
            bought=bought,
            fee=wanted.fee,
        ),
    )
    if any(outcome.replayed for outcome in outcomes):
        # Somebody with the same id was first and has committed since we looked.
        return _same(await get(uow, wanted.id), wanted)
    if switch is not None:
        raise switches.stopped_by(switch)
    made = Exchange(
        id=wanted.id,
        source_wallet_id=wanted.source_wallet_id,
        destination_wallet_id=wanted.destination_wallet_id,
        sold=wanted.sold,
        bought=bought,
        fee=wanted.fee,
        rate=wanted.rate,
        rounding=wanted.rounding,
        requested_by=principal.subject,
        booked_at=_booked_at(outcomes),
    )
    await store.insert_exchange(uow, made)
    told = _told(made)
    await outbox.emit(uow, "exchange.posted", made.id, told)
    await audit.record(uow, principal.subject, "exchange.post", made.id, told)
    return made


async def reverse(uow: UnitOfWork, principal: Principal, exchange_id: ExchangeId) -> Exchange:
    """Mirror every leg of an exchange, the fee's as well; once.

    Raises UnknownExchange, ExchangeReversed, InsufficientFunds (what was bought is spent). Locks the ledger accounts.
    """
    found = await get(uow, exchange_id)
    mirrors = postings.exchange_reversed(exchange_id=exchange_id, with_fee=found.fee is not None)
    try:
        outcomes = await ledger.post(uow, *mirrors)
    except AlreadyReversed as error:
        raise ExchangeReversed(exchange=exchange_id) from error
    if any(outcome.replayed for outcome in outcomes):
        raise ExchangeReversed(exchange=exchange_id)
    await store.insert_reversal(uow, exchange_id, principal.subject, _booked_at(outcomes))
    made = await get(uow, exchange_id)
    told = _told(made)
    await outbox.emit(uow, "exchange.reversed", made.id, told)
    await audit.record(uow, principal.subject, "exchange.reverse", made.id, told)
    return made


async def get(session: ReadSession, exchange_id: ExchangeId) -> Exchange:
    """One exchange. Raises UnknownExchange."""
    found = await store.load_exchange(session, exchange_id)
    if found is None:
        raise UnknownExchange(exchange=exchange_id)
    return found


async def list_exchanges(
    session: ReadSession, *, before: ExchangeId | None = None, limit: int = 100
) -> list[Exchange]:
    """A page, newest first; `before` is the last of the page before."""
    return await store.load_exchanges(session, before=before, limit=limit)


def _same(known: Exchange, wanted: RequestExchange) -> Exchange:
    """The exchange of this id, if it is the one that is wanted."""
    asked = RequestExchange(
        id=known.id,
        source_wallet_id=known.source_wallet_id,
        destination_wallet_id=known.destination_wallet_id,
        sold=known.sold,
        bought_asset=known.bought.asset,
        rate=known.rate,
        rounding=known.rounding,
        fee=known.fee,
    )
    if asked != wanted:
        raise ExchangeExistsDifferent(exchange=wanted.id)
    return known


def _booked_at(outcomes: tuple[Outcome, ...]) -> datetime:
    """When one chain was booked: all its legs at one time."""
    for outcome in outcomes:
        if outcome.booked_at is not None:
            return outcome.booked_at
    raise InvariantViolated("a chain was applied without a time")


def _told(made: Exchange) -> dict[str, object]:
    """The exchange as events and audit entries carry it."""
    return {
        "source_wallet_id": str(made.source_wallet_id),
        "destination_wallet_id": str(made.destination_wallet_id),
        "sold_asset": made.sold.asset.text,
        "sold": str(made.sold.atomic),
        "bought_asset": made.bought.asset.text,
        "bought": str(made.bought.atomic),
        "fee": None if made.fee is None else str(made.fee.atomic),
        "rate_numerator": str(made.rate.numerator),
        "rate_denominator": str(made.rate.denominator),
        "rate_source": made.rate.source,
        "quoted_at": made.rate.quoted_at.isoformat(),
        "rounding": made.rounding.value,
        "reversed_at": None if made.reversed_at is None else made.reversed_at.isoformat(),
    }
