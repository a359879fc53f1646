"""Books with something to seal: a vault, wallets, deposits, transfers, holds and reversals."""

from __future__ import annotations

from custody.assets import service as assets
from custody.db.session import Database
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings, service
from custody.ledger.model import OpenAccount, Transfer, TransferCode

XLM = parse_asset_id("stellar:devnet/native")
EUR = parse_asset_id("fiat/EUR")
ASSETS = (XLM, EUR)
OWNERS = [derived_uuid("wallet", n) for n in range(5)]
VAULTS = {asset: postings.vault_account(derived_uuid("vault"), asset) for asset in ASSETS}
WALLETS = {asset: [postings.wallet_account(owner, asset) for owner in OWNERS] for asset in ASSETS}


async def open_books(db: Database, tenant: TenantId) -> None:
    """Every wallet has 1000 of both assets."""
    async with db.unit_of_work(tenant) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        await assets.register(uow, EUR, "EUR", 2)
        for asset in ASSETS:
            keys = (VAULTS[asset], *WALLETS[asset])
            await service.post(uow, *(OpenAccount(key=key) for key in keys))
            await service.post(uow, *(deposit(n, 1000, asset) for n in range(len(OWNERS))))


def deposit(wallet: int, atomic: int, asset=XLM) -> Transfer:
    return _move(VAULTS[asset], WALLETS[asset][wallet], atomic, asset)


def pay(payer: int, payee: int, atomic: int, asset=XLM) -> Transfer:
    return _move(WALLETS[asset][payer], WALLETS[asset][payee], atomic, asset)


async def post(db: Database, tenant: TenantId, *commands: Transfer) -> None:
    """One transaction, one batch."""
    async with db.unit_of_work(tenant) as uow:
        await service.post(uow, *commands)


def _move(debit, credit, atomic: int, asset) -> Transfer:
    return Transfer(
        id=new_uuid(),
        debit=debit,
        credit=credit,
        amount=Amount(asset, atomic),
        code=TransferCode.WALLET_TRANSFER,
        reference=new_uuid(),
    )
