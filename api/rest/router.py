"""All of REST. Each part names its whole path, so that metrics and logs show `/v1/…` as clients write it."""

from __future__ import annotations

from fastapi import APIRouter

from api.rest import (
    address_book,
    adjustments,
    api_keys,
    approvals,
    assets,
    audit,
    bank_accounts,
    batches,
    bulk_transfers,
    cases,
    chains,
    cool_down_rules,
    customer_tokens,
    customers,
    deposit_pool,
    deposits,
    events,
    exchanges,
    members,
    oauth,
    payouts,
    proofs,
    rails,
    receipts,
    reconciliation,
    refused_addresses,
    roles,
    statements,
    step_up,
    switches,
    tariffs,
    transfers,
    treasury,
    vaults,
    wallets,
    webhook_deliveries,
    webhook_endpoints,
    withdrawals,
)

_PARTS = (
    customers,
    wallets,
    statements,
    deposits,
    deposit_pool,
    vaults,
    treasury,
    assets,
    bulk_transfers,
    cases,
    transfers,
    exchanges,
    adjustments,
    withdrawals,
    batches,
    approvals,
    address_book,
    refused_addresses,
    cool_down_rules,
    payouts,
    bank_accounts,
    receipts,
    rails,
    switches,
    audit,
    proofs,
    reconciliation,
    tariffs,
    chains,
    events,
    webhook_endpoints,
    webhook_deliveries,
    api_keys,
    members,
    roles,
    oauth,
    step_up,
    customer_tokens,
)


def parts() -> list[APIRouter]:
    """Every part by itself."""
    return [part.router for part in _PARTS]


router = APIRouter()
for each in parts():
    router.include_router(each)
