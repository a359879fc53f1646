"""All of REST. Each part names its whole path, so that metrics and logs show `/v1/…` as clients write it."""

from __future__ import annotations

from fastapi import APIRouter

from api.rest import (
    address_book,
    approvals,
    assets,
    audit,
    bank_accounts,
    bulk_transfers,
    cases,
    chains,
    cool_down_rules,
    customers,
    deposit_pool,
    events,
    exchanges,
    payouts,
    proofs,
    rails,
    receipts,
    refused_addresses,
    transfers,
    vaults,
    wallets,
    webhook_deliveries,
    webhook_endpoints,
    withdrawals,
)

router = APIRouter()
for part in (
    customers,
    wallets,
    deposit_pool,
    vaults,
    assets,
    bulk_transfers,
    cases,
    transfers,
    exchanges,
    withdrawals,
    approvals,
    address_book,
    refused_addresses,
    cool_down_rules,
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
):
    router.include_router(part.router)
