"""One round of the treasury: sweeps, gas, levels of vaults, reserves and trustlines, on every chain of a tenant."""

from __future__ import annotations

from collections.abc import Awaitable

import structlog

from custody.deposits.ports import KeyMaker
from custody.kernel.assetid import ChainId
from custody.kernel.errors import CustodyError
from custody.kernel.ids import TenantId, WithdrawalId
from custody.treasury.levels import level
from custody.treasury.lines import trust
from custody.treasury.sweeping import sweep
from custody.withdrawals.ports import Means

_log = structlog.get_logger(__name__)


async def tend(means: Means, keys: KeyMaker, tenant: TenantId) -> list[WithdrawalId]:
    """Returns all that was asked for. A chain that does not answer keeps nothing else waiting. Idempotent."""
    asked: list[WithdrawalId] = []
    for chain in means.settings.chains:
        if ChainId(chain.id) not in means.clients:
            continue
        asked += await _heard(level(means, keys, tenant, chain), tenant, chain.id)
        if chain.kind == "evm":
            asked += await _heard(sweep(means, keys, tenant, chain), tenant, chain.id)
        elif means.settings.treasury.trustlines:
            asked += await _heard(trust(means, tenant, chain), tenant, chain.id)
    return asked


async def _heard(part: Awaitable[list[WithdrawalId]], tenant: TenantId, chain: str) -> list[WithdrawalId]:
    try:
        return await part
    except CustodyError as error:
        _log.warning("treasury.waiting", tenant=tenant, chain=chain, reason=str(error))
        return []
