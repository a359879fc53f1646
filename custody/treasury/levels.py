"""Keep hot, warm and gas vaults between their levels, and each Stellar vault above its reserve.

What is missing is asked for, and what is too much is asked to be taken, as a refill like any other: how many people it needs is
for the policy to say, by the group of the vault that pays. So what leaves a cold vault needs more of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from custody.chain_settings import STELLAR_RESERVE
from custody.db.session import ReadSession, UnitOfWork
from custody.deposits import execution as vaults
from custody.deposits.ports import KeyMaker
from custody.holdings import service as holdings
from custody.kernel.assetid import AssetId, ChainId, native
from custody.kernel.errors import CustodyError
from custody.kernel.ids import TenantId, VaultId, WithdrawalId, derived_uuid
from custody.kernel.money import MAX_ATOMIC
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.settings import ChainSettings
from custody.treasury import store
from custody.treasury.model import BEYOND, COLD, GAS, OMNIBUS, WARM, Target
from custody.treasury.plan import Purse, plan_level
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import refills
from custody.withdrawals import service as withdrawals
from custody.withdrawals.asking import next_number
from custody.withdrawals.drafts import worker_principal
from custody.withdrawals.model import VaultMove
from custody.withdrawals.ports import Means

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """One vault that should stay between levels, and the vaults that could help."""

    vault: Vault
    target: Target
    others: tuple[Vault, ...]


async def level(means: Means, keys: KeyMaker, tenant: TenantId, chain: ChainSettings) -> list[WithdrawalId]:
    """One round on one chain. Returns the refills that it asked for.

    Of each vault, asset and direction at most one is open. What is refused is told to operators and tried again later.
    """
    asked: list[WithdrawalId] = []
    for wish in await _wishes(means, keys, tenant, chain):
        try:
            async with means.db.unit_of_work(tenant) as uow:
                request = await _tend(uow, means, tenant, chain, wish)
        except CustodyError as error:
            _log.warning(
                "treasury.refused",
                vault_id=str(wish.vault.id),
                asset=wish.target.asset.text,
                reason=str(error),
            )
            continue
        asked += [] if request is None else [request]
    return asked


async def _wishes(means: Means, keys: KeyMaker, tenant: TenantId, chain: ChainSettings) -> list[_Wish]:
    chain_id = ChainId(chain.id)
    async with means.db.read(tenant) as session:
        targets = [
            each
            for each in await store.load_targets(session)
            if each.enabled and each.asset.chain == chain_id
        ]
    if any(each.purpose == GAS for each in targets):
        await vaults.find_or_make(means.db, keys, worker_principal(tenant), chain_id, GAS, 1)
    async with means.db.read(tenant) as session:
        oldest = {
            purpose: found[0]
            for purpose in (OMNIBUS, WARM, COLD, GAS)
            if (found := await wallets.list_vaults(session, chain_id, purpose))
        }
        wishes = [
            _Wish(
                vault=oldest[each.purpose],
                target=each,
                others=tuple(oldest[name] for name in BEYOND[each.purpose] if name in oldest),
            )
            for each in targets
            if each.purpose in oldest
        ]
        if chain.kind == "stellar" and means.settings.treasury.reserve_margin_stroops:
            wishes += [
                await _reserve(session, means, vault, oldest, wishes)
                for vault in oldest.values()
                if vault.purpose != OMNIBUS or len(oldest) > 1
            ]
    return wishes


async def _reserve(
    session: ReadSession, means: Means, vault: Vault, oldest: dict[str, Vault], wishes: list[_Wish]
) -> _Wish:
    """An account stays above what the network demands of it, and a margin."""
    margin = means.settings.treasury.reserve_margin_stroops
    found = await holdings.find_account(session, vault.id, vault.account)
    exists = found is not None and found[1].exists
    least = found[1].minimum if found is not None and exists else STELLAR_RESERVE
    names = (WARM, COLD) if vault.purpose == OMNIBUS else (OMNIBUS,)
    own = next((each.target for each in wishes if each.vault == vault and each.target.asset.is_native), None)
    low, aim = least + margin, least + 2 * margin
    return _Wish(
        vault=vault,
        target=Target(
            purpose=vault.purpose,
            asset=native(vault.chain),
            low=low,
            target=aim if own is None else max(aim, own.target),
            high=MAX_ATOMIC,
        ),
        others=tuple(oldest[name] for name in names if name in oldest),
    )


async def _tend(
    uow: UnitOfWork, means: Means, tenant: TenantId, chain: ChainSettings, wish: _Wish
) -> WithdrawalId | None:
    """Under a lock of the vault and asset; requests are read before balances, so that what ends in between is waited for."""
    vault, asset = wish.vault, wish.target.asset
    await uow.lock(f"treasury/{tenant}/{vault.id}/{asset.text}")
    now = means.clock.now()
    others = [each for each in wish.others if await _can_hold(uow, chain, each, asset)]
    if not others or not await _can_hold(uow, chain, vault, asset):
        return None
    ids = [each.id for each in wish.others]
    inward = next_number(await refills.list_refills_of(uow, [vault.id], asset), now)
    outward = next_number(await refills.list_refills_of(uow, ids, asset, vault.id), now)
    purses = [
        Purse(vault_id=each.id, spendable=await _spendable(uow, means, chain, each, asset)) for each in others
    ]
    shift = plan_level(wish.target, await _available(uow, vault.id, asset), purses)
    number = None if shift is None else inward if shift.inward else outward
    if shift is None or number is None:
        return None
    other = next(each for each in others if each.id == shift.other_id)
    into = vault if shift.inward else other
    direction = "in" if shift.inward else "out"
    move = VaultMove(
        id=WithdrawalId(derived_uuid("level", direction, vault.id, asset.text, number)),
        kind="refill",
        vault=other if shift.inward else vault,
        into=into,
        asset=asset,
        amount=shift.amount,
        opens=chain.kind == "stellar" and not await _exists(uow, into),
    )
    made = await withdrawals.request_move(
        uow, worker_principal(tenant), move, settings=means.settings, clock=means.clock
    )
    return made.id


async def _exists(session: ReadSession, vault: Vault) -> bool:
    """Whether a Stellar vault's account is there, by our own ingestion."""
    found = await holdings.find_account(session, vault.id, vault.account)
    return found is not None and found[1].exists


async def _can_hold(session: ReadSession, chain: ChainSettings, vault: Vault, asset: AssetId) -> bool:
    """Whether a vault can get this asset at all: on Stellar credit needs a line, seen by our own ingestion."""
    if chain.kind == "evm" or asset.is_native:
        return True
    kept = await holdings.list_holdings(session, [vault.id])
    return any(each.state.asset == asset and each.state.exists for each in kept)


async def _spendable(
    session: ReadSession, means: Means, chain: ChainSettings, vault: Vault, asset: AssetId
) -> int:
    """What a vault can give: not what it needs for itself by its own level, its fees, or the network's reserve."""
    available = await _available(session, vault.id, asset)
    kept = [
        each.low
        for each in await store.load_targets(session)
        if each.enabled and (each.purpose, each.asset) == (vault.purpose, asset)
    ]
    least = max(kept, default=0)
    if asset.is_native and chain.kind == "stellar":
        found = await holdings.find_account(session, vault.id, vault.account)
        reserve = STELLAR_RESERVE if found is None else found[1].minimum
        margin = means.settings.treasury.reserve_margin_stroops + chain.max_fee_stroops
        least = max(least, reserve + margin)
    elif asset.is_native:
        least = max(least, chain.gas_limit_native * chain.max_fee_per_gas_wei)
    return max(available - least, 0)


async def _available(session: ReadSession, vault_id: VaultId, asset: AssetId) -> int:
    return (await ledger.balance(session, postings.vault_account(vault_id, asset))).available
