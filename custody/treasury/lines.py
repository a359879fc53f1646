"""See to it that each Stellar vault which holds customers' or the tenant's money can hold every listed asset of its network.

A line is asked for when an asset is listed and the vault has none, once the vault's account is there. It is an operation of the
vault's key, under the same policy as when a person asks for it.
"""

from __future__ import annotations

import structlog

from custody.assets import service as assets
from custody.holdings import service as holdings
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.errors import CustodyError
from custody.kernel.ids import TenantId, WithdrawalId, derived_uuid
from custody.settings import ChainSettings
from custody.treasury.model import COLD, OMNIBUS, WARM
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import receivers, refills
from custody.withdrawals import service as withdrawals
from custody.withdrawals.asking import next_number
from custody.withdrawals.drafts import worker_principal
from custody.withdrawals.ports import Means

_log = structlog.get_logger(__name__)


async def trust(means: Means, tenant: TenantId, chain: ChainSettings) -> list[WithdrawalId]:
    """One round on one Stellar network. Returns the lines that it asked for.

    What our own ingestion has seen needs no question; else the node is asked. Raises what the node raises.
    """
    asked: list[WithdrawalId] = []
    for vault, asset in await _missing(means, tenant, ChainId(chain.id)):
        stands = await receivers.look_up(means.clients, asset, vault.account)
        if stands is None or not stands.exists or stands.trusts:
            continue
        try:
            request = await _ask(means, tenant, vault, asset)
        except CustodyError as error:
            _log.warning("treasury.refused", vault_id=str(vault.id), asset=asset.text, reason=str(error))
            continue
        asked += [] if request is None else [request]
    return asked


async def _missing(means: Means, tenant: TenantId, chain: ChainId) -> list[tuple[Vault, AssetId]]:
    """Lines that our own ingestion has not seen and that nobody is asked for."""
    async with means.db.read(tenant) as session:
        listed = [
            each.id
            for each in await assets.list_assets(session)
            if each.id.chain == chain and not each.id.is_native and each.id.contract is None
        ]
        if not listed:
            return []
        found = [
            vault
            for vault in await wallets.list_vaults(session, chain)
            if vault.purpose in (OMNIBUS, WARM, COLD)
        ]
        kept = await holdings.list_holdings(session, [vault.id for vault in found])
        there = {(each.vault_id, each.state.asset) for each in kept if each.state.exists}
        wanted = [
            (vault, asset)
            for vault in found
            for asset in listed
            if (vault.id, asset) not in there and asset.reference.partition(":")[2] != vault.account
        ]
        now = means.clock.now()
        return [
            (vault, asset)
            for vault, asset in wanted
            if next_number(await refills.list_lines(session, vault.id, asset), now) is not None
        ]


async def _ask(means: Means, tenant: TenantId, vault: Vault, asset: AssetId) -> WithdrawalId | None:
    async with means.db.unit_of_work(tenant) as uow:
        await uow.lock(f"treasury/{tenant}/{vault.id}/{asset.text}")
        past = await refills.list_lines(uow, vault.id, asset)
        number = next_number(past, means.clock.now())
        if number is None:
            return None
        made = await withdrawals.request_trustline(
            uow,
            worker_principal(tenant),
            WithdrawalId(derived_uuid("line", vault.id, asset.text, number)),
            vault.id,
            asset,
            settings=means.settings,
            clock=means.clock,
        )
    return made.id
