"""Register our accounts at banks and find whose an IBAN is."""

from __future__ import annotations

from custody.audit import service as audit
from custody.banking import store
from custody.banking.errors import BankAccountExistsDifferent, NotABankAsset, UnknownBankAccount
from custody.banking.iban import parse_iban
from custody.banking.model import BankAccount, BankAccountRef
from custody.db.session import ReadSession, UnitOfWork
from custody.identity.model import Principal
from custody.kernel.assetid import FIAT, AssetId
from custody.kernel.ids import BankAccountId, new_uuid


async def add_bank_account(
    uow: UnitOfWork, principal: Principal, *, rail: str, iban: str, asset: AssetId, name: str
) -> BankAccount:
    """Register an account that the bank has already opened for us. Idempotent by rail and IBAN.

    Raises InvalidIban, NotABankAsset, BankAccountExistsDifferent.
    """
    if asset.chain != FIAT:
        raise NotABankAsset(asset=asset.text)
    electronic = parse_iban(iban)
    account_id = BankAccountId(new_uuid())
    written = await store.insert_account(uow, account_id, rail=rail, iban=electronic, asset=asset, name=name)
    account = await store.load_by_iban(uow, rail, electronic)
    if account is None or (account.asset, account.name) != (asset, name):
        raise BankAccountExistsDifferent(rail=rail, iban=electronic)
    if not written:
        return account
    await audit.record(
        uow,
        principal.subject,
        "bank_account.add",
        account.id,
        {"rail": rail, "iban": account.iban, "asset": asset.text},
    )
    return account


async def get_bank_account(session: ReadSession, bank_account_id: BankAccountId) -> BankAccount:
    """The tenant's account. Raises UnknownBankAccount."""
    account = await store.load_account(session, bank_account_id)
    if account is None:
        raise UnknownBankAccount(bank_account=str(bank_account_id))
    return account


async def get_by_iban(session: ReadSession, rail: str, iban: str) -> BankAccount:
    """The tenant's account with this IBAN. Raises UnknownBankAccount."""
    account = await store.load_by_iban(session, rail, iban)
    if account is None:
        raise UnknownBankAccount(rail=rail, iban=iban)
    return account


async def list_bank_accounts(session: ReadSession) -> list[BankAccount]:
    """All accounts of the tenant, in the order they were added."""
    return await store.load_accounts(session)


async def find_bank_account(session: ReadSession, rail: str, iban: str) -> BankAccountRef:
    """Whose account this is, whichever tenant asks or none. Raises UnknownBankAccount."""
    ref = await store.find_ref(session, rail, iban)
    if ref is None:
        raise UnknownBankAccount(rail=rail, iban=iban)
    return ref
