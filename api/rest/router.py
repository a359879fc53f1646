"""All of REST. Each part names its whole path, so that metrics and logs show `/v1/…` as clients write it."""

from __future__ import annotations

from fastapi import APIRouter

from api.rest import (
    adjustments,
    approvals,
    assets,
    audit,
    bank_accounts,
    bulk_transfers,
    cases,
    chains,
    customers,
    deposit_pool,
    events,
    exchanges,
    payouts,
    proofs,
    rails,
    receipts,
    transfers,
    vaults,
    wallets,
    webhook_deliveries,
    webhook_endpoints,
    withdrawals,
)

_PARTS = (
    customers,
    wallets,
    deposit_pool,
    vaults,
    assets,
    bulk_transfers,
    cases,
    transfers,
    exchanges,
    adjustments,
    withdrawals,
    approvals,
    payouts,
    bank_accounts,
    receipts,
    rails,
    audit,
    proofs,
    chains,
    events,
    webhook_endpoints,
    webhook_deliveries,
)


def parts() -> list[APIRouter]:
    """Every part by itself."""
    return [part.router for part in _PARTS]


router = APIRouter()
for each in parts():
    router.include_router(each)
