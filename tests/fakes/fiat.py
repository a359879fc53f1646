"""A tenant with a wallet and a bank account, and facts as a rail would tell them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from custody.assets import service as assets
from custody.banking import service as banking
from custody.banking.model import BankAccount
from custody.db.session import Database
from custody.identity.model import Principal
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import CustomerId, PayoutId, PrincipalId, TenantId, WalletId, new_uuid
from custody.kernel.money import Amount
from custody.ledger import service as ledger
from custody.ledger.postings import bank_account, suspense_account, wallet_account
from custody.payouts import service as payouts
from custody.payouts.model import Payout, RailEvent, RailObservation, RequestPayout, build_reference
from custody.receipts import service as receipts
from custody.receipts.model import BankReceipt, Receipt
from custody.wallets import service as wallets
from devnet.bank.ibans import NORMAL, sandbox_iban
from tests.fakes.bank_process import OUR_IBAN, PAYER_IBAN

EUR = parse_asset_id("fiat/EUR")
NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fiat:
    """One tenant that pays and is paid in EUR."""

    database: Database
    tenant: TenantId
    principal: Principal
    wallet_id: WalletId
    account: BankAccount

    async def fund(self, atomic: int) -> Receipt:
        """Money arrives for the wallet."""
        async with self.database.unit_of_work(self.tenant) as uow:
            reference = await receipts.reference_for(uow, self.wallet_id)
            return await receipts.observe(uow, make_receipt(atomic, reference, iban=self.account.iban))

    def order(self, atomic: int, ending: int = NORMAL, payout_id: PayoutId | None = None) -> RequestPayout:
        """A request to pay the beneficiary whose account ends like this."""
        return RequestPayout(
            id=payout_id or PayoutId(new_uuid()),
            wallet_id=self.wallet_id,
            bank_account_id=self.account.id,
            beneficiary_iban=sandbox_iban(ending),
            beneficiary_name="Grace Hopper",
            amount=Amount(EUR, atomic),
            remittance="Invoice 7421",
        )

    async def request(self, atomic: int, ending: int = NORMAL) -> Payout:
        """Request a payout."""
        async with self.database.unit_of_work(self.tenant) as uow:
            return await payouts.request(uow, self.principal, self.order(atomic, ending))

    async def get(self, payout_id: PayoutId) -> Payout:
        """The payout as it stands."""
        async with self.database.read(self.tenant) as session:
            return await payouts.get(session, payout_id)

    async def books(self) -> dict[str, int]:
        """What the ledger says: wallet (posted, available), bank, suspense, and the trial balance."""
        async with self.database.read(self.tenant) as session:
            wallet = await ledger.balance(session, wallet_account(self.wallet_id, EUR))
            bank = await ledger.balance(session, bank_account(self.account.id, EUR))
            suspense = await ledger.balance(session, suspense_account(EUR))
            trial = await ledger.trial_balance(session)
        return {
            "wallet": wallet.posted,
            "available": wallet.available,
            "bank": bank.posted,
            "suspense": suspense.posted,
            "trial": trial.get(EUR, 0),
        }

    def news(self, payout: Payout, event: RailEvent, **other: object) -> RailObservation:
        """What the rail would say about a payout; `other` replaces fields."""
        fields: dict[str, object] = {
            "rail": payout.rail,
            "external_event_id": f"evt_{payout.id.hex}_{event.value}",
            "external_ref": f"pmt_{payout.id.hex}",
            "account_iban": payout.account_iban,
            "reference": build_reference(payout.id),
            "event": event,
            "code": "AC04" if event in (RailEvent.RETURNED, RailEvent.REJECTED) else "",
            "amount": payout.amount,
            "beneficiary_iban": payout.beneficiary_iban,
            "occurred_at": NOW,
            "raw_sha256": hashlib.sha256(event.value.encode()).digest(),
        }
        return RailObservation(**{**fields, **other})  # type: ignore[arg-type]  # fields by name, checked at construction


async def make_fiat(
    database: Database, tenant: TenantId, *, rail: str = "sandbox", iban: str = OUR_IBAN
) -> Fiat:
    """A tenant with a wallet, a bank account on this rail, and EUR listed."""
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, EUR, "EUR", 2)
        customer = await wallets.create_customer(
            uow, "test", CustomerId(new_uuid()), name="Ann", external_ref="ann"
        )
        wallet = await wallets.create_wallet(uow, "test", WalletId(new_uuid()), customer.id, "main")
        principal = Principal(
            tenant=tenant, id=PrincipalId(new_uuid()), subject="ops", scopes=frozenset({"write", "operate"})
        )
        account = await banking.add_bank_account(uow, principal, rail=rail, iban=iban, asset=EUR, name="Main")
    return Fiat(database=database, tenant=tenant, principal=principal, wallet_id=wallet.id, account=account)


def make_receipt(
    atomic: int, remittance: str, *, ref: str | None = None, iban: str = OUR_IBAN
) -> BankReceipt:
    """An arrival as a bank would tell it."""
    external_ref = ref or f"inc_{new_uuid().hex}"
    return BankReceipt(
        rail="sandbox",
        external_event_id=f"evt_{external_ref}",
        external_ref=external_ref,
        account_iban=iban,
        amount=Amount(EUR, atomic),
        remittance=remittance,
        debtor_iban=PAYER_IBAN,
        debtor_name="Outsider",
        occurred_at=NOW,
        raw_sha256=hashlib.sha256(remittance.encode()).digest(),
    )
