"""All of REST, under `/v1`."""

from __future__ import annotations

from fastapi import APIRouter

from api.rest import (
    approvals,
    assets,
    audit,
    bank_accounts,
    chains,
    customers,
    payouts,
    rails,
    receipts,
    transfers,
    vaults,
    wallets,
    withdrawals,
)

router = APIRouter(prefix="/v1")
for part in (
    customers,
    wallets,
    vaults,
    assets,
    transfers,
    withdrawals,
    approvals,
    payouts,
    bank_accounts,
    receipts,
    rails,
    audit,
    chains,
):
    router.include_router(part.router)
