"""Set what withdrawals cost, say it before, and agree to it when one is asked for.

Holding and charging is the withdrawal's own business (`withdrawals.fees`): the fee's legs are posted with those of the amount.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from custody.assets import service as assets
from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.kernel.assetid import AssetId
from custody.kernel.ids import QuoteId, WalletId, derived_uuid
from custody.kernel.money import MAX_ATOMIC, Amount, AmountNotPositive
from custody.tariffs import store
from custody.tariffs.errors import (
    MalformedTariff,
    NetworkCostInOtherAsset,
    QuoteDiffers,
    QuoteExistsDifferent,
    QuoteExpired,
    UnknownQuote,
)
from custody.tariffs.model import BPS, HeldFee, Quote, RequestQuote, Tariff, TariffTerms
from custody.wallets import service as wallets

QUOTE_VALID_S_MAX = 86_400
"""A quote binds us for a day at most."""
_UNTARIFFED_VALID_S = 300
"""How long it binds that nothing is charged, where no tariff says how long a quote does."""


async def set_tariff(
    uow: UnitOfWork, actor: str, asset: AssetId, terms: TariffTerms, note: str = ""
) -> Tariff:
    """From now on withdrawals of this asset cost so much; quotes that were given stand. The same terms again change nothing.

    Raises UnknownAsset, MalformedTariff, NetworkCostInOtherAsset. Locks the tenant's tariff of the asset.
    """
    await assets.get(uow, asset)
    _check(asset, terms)
    await uow.lock(f"tariff/{uow.tenant}/{asset.text}")
    last = await store.load_tariff(uow, asset)
    if last is not None and last.terms == terms:
        return last
    version = 1 if last is None else last.version + 1
    new = Tariff(asset=asset, version=version, terms=terms, set_by=actor, note=note)
    await store.insert_tariff(uow, new)
    told: dict[str, object] = {
        "asset": asset.text,
        "version": version,
        "kind": terms.kind,
        "flat": str(terms.flat),
        "bps": terms.bps,
        "minimum": str(terms.minimum),
        "maximum": None if terms.maximum is None else str(terms.maximum),
        "quote_valid_s": terms.quote_valid_s,
        "note": note,
    }
    named = derived_uuid("tariff", uow.tenant, asset.text)
    await outbox.emit(uow, "tariff.set", named, told)
    await audit.record(uow, actor, "tariff.set", named, told)
    return new


async def list_tariffs(session: ReadSession) -> list[Tariff]:
    """The tariffs in force, by asset. Withdrawals of an asset without one are free."""
    return await store.load_tariffs(session)


async def quote(uow: UnitOfWork, actor: str, wanted: RequestQuote, now: datetime) -> Quote:
    """Say what a withdrawal costs, and for how long that binds. Idempotent by id.

    Raises UnknownWallet, UnknownAsset, AmountNotPositive, QuoteExistsDifferent.
    """
    if wanted.amount.atomic <= 0:
        raise AmountNotPositive(amount=str(wanted.amount.atomic))
    await uow.lock(f"withdrawal_quote/{uow.tenant}/{wanted.id}")
    earlier = await store.load_quote(uow, wanted.id)
    if earlier is not None:
        if (earlier.wallet_id, earlier.amount) != (wanted.wallet_id, wanted.amount):
            raise QuoteExistsDifferent(id=str(wanted.id))
        return earlier
    await assets.get(uow, wanted.amount.asset)
    tariff = await _tariff_for(uow, wanted.wallet_id, wanted.amount.asset)
    valid_s = _UNTARIFFED_VALID_S if tariff is None else tariff.terms.quote_valid_s
    new = Quote(
        id=wanted.id,
        wallet_id=wanted.wallet_id,
        amount=wanted.amount,
        fee=_fee(tariff, wanted.amount.atomic, wanted.id),
        expires_at=now + timedelta(seconds=valid_s),
        created_at=now,
    )
    await store.insert_quote(uow, new, actor)
    told: dict[str, object] = {
        "wallet_id": str(new.wallet_id),
        "asset": new.amount.asset.text,
        "amount": str(new.amount.atomic),
        "fee_kind": new.fee.kind,
        "fee": str(new.fee.held),
        "tariff_version": new.fee.tariff_version,
        "expires_at": new.expires_at.isoformat(),
    }
    await outbox.emit(uow, "withdrawal_quote.given", new.id, told)
    await audit.record(uow, actor, "withdrawal_quote.give", new.id, told)
    return new


async def get_quote(session: ReadSession, quote_id: QuoteId) -> Quote:
    """One quote. Raises UnknownQuote."""
    found = await store.load_quote(session, quote_id)
    if found is None:
        raise UnknownQuote(id=str(quote_id))
    return found


async def agree(
    uow: UnitOfWork, wallet_id: WalletId, amount: Amount, quote_id: QuoteId | None, now: datetime
) -> HeldFee | None:
    """What a withdrawal that is asked for now may cost: as quoted, or by the tariff in force. None where there is no tariff.

    Raises UnknownQuote, QuoteDiffers (another wallet, asset or amount), QuoteExpired, UnknownWallet. That a quote is used once is
    for the caller to see to.
    """
    if quote_id is None:
        tariff = await _tariff_for(uow, wallet_id, amount.asset)
        return None if tariff is None else _fee(tariff, amount.atomic, None)
    found = await get_quote(uow, quote_id)
    if (found.wallet_id, found.amount) != (wallet_id, amount):
        raise QuoteDiffers(id=str(quote_id))
    if now >= found.expires_at:
        raise QuoteExpired(id=str(quote_id), expires_at=found.expires_at.isoformat())
    return found.fee


async def _tariff_for(session: ReadSession, wallet_id: WalletId, asset: AssetId) -> Tariff | None:
    """The tenant's own wallets are no customers': they are charged nothing."""
    wallet = await wallets.get_wallet(session, wallet_id)
    customer = await wallets.get_customer(session, wallet.customer_id)
    return None if customer.kind == "treasury" else await store.load_tariff(session, asset)


def _fee(tariff: Tariff | None, amount: int, quote_id: QuoteId | None) -> HeldFee:
    if tariff is None:
        return HeldFee(kind="free", tariff_version=None, quote_id=quote_id, held=0)
    return HeldFee(
        kind=tariff.terms.kind,
        tariff_version=tariff.version,
        quote_id=quote_id,
        held=tariff.terms.fee_held(amount),
        markup_bps=tariff.terms.bps if tariff.terms.kind == "network" else 0,
    )


def _check(asset: AssetId, terms: TariffTerms) -> None:
    amounts = (terms.flat, terms.minimum, terms.maximum or 0)
    fits = all(0 <= each <= MAX_ATOMIC for each in amounts) and 0 <= terms.bps <= BPS
    if not fits or not 0 < terms.quote_valid_s <= QUOTE_VALID_S_MAX:
        raise MalformedTariff(kind=terms.kind)
    uses = {
        "free": (False, False, False, False),
        "flat": (True, False, False, False),
        "bps": (False, True, True, True),
        "network": (False, True, False, True),
    }[terms.kind]
    given = (terms.flat > 0, terms.bps > 0, terms.minimum > 0, terms.maximum is not None)
    if any(is_given and not is_used for is_given, is_used in zip(given, uses, strict=True)):
        raise MalformedTariff(kind=terms.kind, reason="a term of another kind")
    if terms.kind == "bps" and terms.maximum is not None and terms.maximum < terms.minimum:
        raise MalformedTariff(kind=terms.kind, reason="the maximum is below the minimum")
    if terms.kind == "network":
        if terms.maximum is None:
            raise MalformedTariff(kind=terms.kind, reason="no ceiling")
        if not asset.is_native:
            raise NetworkCostInOtherAsset(asset=asset.text)
