"""Sweep the deposit addresses of an EVM chain, and send gas to those that need it.

Each round looks at what is final in the books and asks for what the rules want. A round remembers nothing that matters: each
request is made in the transaction that looked, under a lock of its address, and has an id that follows from what it is for. So
whatever dies when, and however many workers look, an address is swept once and gets its gas once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog

from custody.db.session import ReadSession, UnitOfWork
from custody.deposits import execution as vaults
from custody.deposits.ports import KeyMaker
from custody.kernel.assetid import AssetId, ChainId, native
from custody.kernel.errors import CustodyError, InvariantViolated
from custody.kernel.ids import TenantId, VaultId, WithdrawalId, derived_uuid
from custody.ledger import history
from custody.ledger import service as ledger
from custody.ledger.model import AccountKind, Balance
from custody.settings import ChainSettings
from custody.treasury import store
from custody.treasury.model import DEPOSIT, GAS, Holding, SweepRule, Verdict
from custody.treasury.plan import Costs, Gas, Held, Judged, Step, costs_of, plan_address
from custody.wallets import service as wallets
from custody.wallets.errors import NoOmnibusVault
from custody.wallets.model import Vault
from custody.withdrawals import refills
from custody.withdrawals import service as withdrawals
from custody.withdrawals.asking import next_number
from custody.withdrawals.drafts import worker_principal
from custody.withdrawals.model import VaultMove, Withdrawal
from custody.withdrawals.ports import Means

_PAGE = 500
_MOVING = frozenset({Verdict.FUNDING, Verdict.SWEEPING, Verdict.WAITING, Verdict.REFUSED})
"""Verdicts that rest on more than what lies there."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One tenant on one chain, for one round."""

    means: Means
    """What requests are written with."""
    tenant: TenantId
    """Whose addresses."""
    chain: ChainId
    """Where."""
    rules: Mapping[AssetId, SweepRule]
    """The chain's rules that are enabled."""
    costs: Costs
    """What transactions may cost now."""
    omnibus: Vault
    """Where sweeps go."""
    gas: Vault | None
    """What pays for the sweeps of tokens; None where no rule is about a token."""


async def sweep(means: Means, keys: KeyMaker, tenant: TenantId, chain: ChainSettings) -> list[WithdrawalId]:
    """One round. Returns the sweeps and sendings of gas that it asked for.

    What the policy or the ledger refuses is noted at the address, told to operators, and tried again in a later round. Raises
    what the node and the signer raise.
    """
    site = await _open(means, keys, tenant, chain)
    if site is None:
        return []
    asked: list[WithdrawalId] = []
    seen: set[tuple[VaultId, AssetId]] = set()
    after = UUID(int=0)
    while True:
        async with means.db.read(tenant) as session:
            page = await history.balances_with_money(
                session, AccountKind.VAULT, {*site.rules, native(site.chain)}, after, _PAGE
            )
            whole = _whole_owners(page, _PAGE)
            found = await _look(session, site, whole)
        for vault, balances, noted in found:
            seen |= {(vault.id, asset) for asset in balances}
            request = await _tend_address(site, vault, balances, noted)
            asked += [] if request is None else [request]
        if len(page) < _PAGE:
            break
        after = _owner(whole[-1])
    await _note_emptied(site, seen)
    return asked


async def _open(means: Means, keys: KeyMaker, tenant: TenantId, chain: ChainSettings) -> Site | None:
    chain_id = ChainId(chain.id)
    async with means.db.read(tenant) as session:
        rules = {
            rule.asset: rule
            for rule in await store.load_rules(session)
            if rule.enabled and rule.asset.chain == chain_id
        }
        if not rules:
            return None
        try:
            omnibus = await wallets.omnibus(session, chain_id)
        except NoOmnibusVault:
            return None
    gas = None
    if any(not asset.is_native for asset in rules):
        (gas, *_) = await vaults.find_or_make(means.db, keys, worker_principal(tenant), chain_id, GAS, 1)
    costs = costs_of(
        await means.clients[chain_id].fees(),
        gas_native=chain.gas_limit_native,
        gas_token=chain.gas_limit_erc20,
        price_max=chain.max_fee_per_gas_wei,
    )
    return Site(
        means=means, tenant=tenant, chain=chain_id, rules=rules, costs=costs, omnibus=omnibus, gas=gas
    )


async def _look(
    session: ReadSession, site: Site, balances: Sequence[Balance]
) -> list[tuple[Vault, dict[AssetId, int], dict[AssetId, Holding]]]:
    """Deposit addresses among these owners, with what they hold and what was noted of them."""
    of_owner: dict[VaultId, dict[AssetId, int]] = {}
    for each in balances:
        of_owner.setdefault(VaultId(_owner(each)), {})[each.key.asset] = each.available
    found = [
        vault
        for vault in await wallets.find_vaults_of(session, list(of_owner))
        if (vault.purpose, vault.chain) == (DEPOSIT, site.chain)
    ]
    noted: dict[VaultId, dict[AssetId, Holding]] = {vault.id: {} for vault in found}
    for (vault_id, asset), holding in (await store.load_holdings(session, list(noted))).items():
        noted[vault_id][asset] = holding
    return [(vault, of_owner[vault.id], noted[vault.id]) for vault in found]


async def _tend_address(
    site: Site, vault: Vault, balances: Mapping[AssetId, int], noted: Mapping[AssetId, Holding]
) -> WithdrawalId | None:
    """Ask for what one address needs. Most need nothing, which is seen without a lock."""
    free = {asset: _Asked(number=0, is_open=False) for asset in site.rules}
    at_once = _plan(site, balances, noted, free, Gas(is_open=False, number=0))
    moving = any(each.verdict in _MOVING for each in noted.values())
    if not moving and not any(each.step for each in at_once):
        await _note_if_new(site, vault, at_once, balances, noted)
        return None
    step = None
    try:
        async with site.means.db.unit_of_work(site.tenant) as uow:
            await uow.lock(f"treasury/{site.tenant}/{vault.id}")
            judged, now_held = await _plan_alone(uow, site, vault, noted)
            await _note(uow, site, vault, judged, now_held, noted)
            step = next((each for each in judged if each.step is not None), None)
            if step is None or step.step is None:
                return None
            return (await _request(uow, site, vault, step.step)).id
    except CustodyError as error:
        if step is None:
            raise
        await _note_refusal(site, vault, step.asset, error.code, balances, noted)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """How the sweeps of one asset of one address stand."""

    number: int | None
    is_open: bool


async def _plan_alone(
    uow: UnitOfWork, site: Site, vault: Vault, noted: Mapping[AssetId, Holding]
) -> tuple[list[Judged], dict[AssetId, int]]:
    """The plan by what is committed now, under the address's lock.

    Requests are read before the balances: what ends in between is then taken for open, and waited for once more.
    """
    now = site.means.clock.now()
    sent = await refills.list_refills_of(uow, [vault.id], native(site.chain))
    asked = {}
    for asset in site.rules:
        past = await refills.list_sweeps(uow, vault.id, asset)
        asked[asset] = _Asked(number=next_number(past, now), is_open=any(each.is_open for each in past))
    found = await ledger.balances(uow, AccountKind.VAULT, vault.id)
    held = {each.key.asset: each.available for each in found}
    gas = Gas(is_open=any(each.is_open for each in sent), number=next_number(sent, now))
    return _plan(site, held, noted, asked, gas), held


def _plan(
    site: Site,
    held: Mapping[AssetId, int],
    noted: Mapping[AssetId, Holding],
    asked: Mapping[AssetId, _Asked],
    gas: Gas,
) -> list[Judged]:
    now = site.means.clock.now()
    return plan_address(
        [
            Held(
                asset=asset,
                amount=held.get(asset, 0),
                since=_since(noted.get(asset), now),
                number=asked[asset].number,
                is_open=asked[asset].is_open,
            )
            for asset in site.rules
            if asset in held or asset in noted
        ],
        site.rules,
        site.costs,
        ether=held.get(native(site.chain), 0),
        gas=gas,
        now=now,
    )


async def _request(uow: UnitOfWork, site: Site, vault: Vault, step: Step) -> Withdrawal:
    if step.price is None:
        if site.gas is None:
            raise NoOmnibusVault(chain=site.chain)
        move = VaultMove(
            id=WithdrawalId(derived_uuid("gas", vault.id, step.number)),
            kind="refill",
            vault=site.gas,
            into=vault,
            asset=step.asset,
            amount=step.amount,
        )
    else:
        move = VaultMove(
            id=WithdrawalId(derived_uuid("sweep", vault.id, step.asset.text, step.number)),
            kind="sweep",
            vault=vault,
            into=site.omnibus,
            asset=step.asset,
            amount=step.amount,
            fee_per_gas=step.price,
        )
    return await withdrawals.request_move(
        uow,
        worker_principal(site.tenant),
        move,
        settings=site.means.settings,
        clock=site.means.clock,
    )


async def _note_if_new(
    site: Site,
    vault: Vault,
    judged: Sequence[Judged],
    held: Mapping[AssetId, int],
    noted: Mapping[AssetId, Holding],
) -> None:
    kept = {asset: (each.verdict, each.amount) for asset, each in noted.items()}
    if all(kept.get(each.asset) == (each.verdict, held.get(each.asset, 0)) for each in judged):
        return
    async with site.means.db.unit_of_work(site.tenant) as uow:
        await _note(uow, site, vault, judged, held, noted)


async def _note(
    uow: UnitOfWork,
    site: Site,
    vault: Vault,
    judged: Sequence[Judged],
    held: Mapping[AssetId, int],
    noted: Mapping[AssetId, Holding],
) -> None:
    """What is found new, or differs from what was noted. What a sweep is asked for begins to age anew."""
    now = site.means.clock.now()
    for each in judged:
        before, amount = noted.get(each.asset), held.get(each.asset, 0)
        swept = each.step is not None and each.step.price is not None
        if before is not None and (before.verdict, before.amount) == (each.verdict, amount) and not swept:
            continue
        found = Holding(
            vault_id=vault.id,
            asset=each.asset,
            amount=amount,
            verdict=each.verdict,
            detail="",
            since=now if swept else _since(before, now),
        )
        await store.write_holding(uow, found, now)


async def _note_refusal(
    site: Site,
    vault: Vault,
    asset: AssetId,
    code: str,
    held: Mapping[AssetId, int],
    noted: Mapping[AssetId, Holding],
) -> None:
    now = site.means.clock.now()
    found = Holding(
        vault_id=vault.id,
        asset=asset,
        amount=held.get(asset, 0),
        verdict=Verdict.REFUSED,
        detail=code,
        since=_since(noted.get(asset), now),
    )
    before = noted.get(asset)
    if before is None or (before.verdict, before.detail) != (found.verdict, code):
        _log.warning("treasury.refused", vault_id=str(vault.id), asset=asset.text, reason=code)
    if before != found:
        async with site.means.db.unit_of_work(site.tenant) as uow:
            await store.write_holding(uow, found, now)


async def _note_emptied(site: Site, seen: set[tuple[VaultId, AssetId]]) -> None:
    """What was noted and is booked no more has gone."""
    async with site.means.db.read(site.tenant) as session:
        gone = [
            each
            for each in await store.load_not_empty(session, site.chain)
            if (each.vault_id, each.asset) not in seen
        ]
    if not gone:
        return
    now = site.means.clock.now()
    async with site.means.db.unit_of_work(site.tenant) as uow:
        for each in gone:
            empty = Holding(
                vault_id=each.vault_id,
                asset=each.asset,
                amount=0,
                verdict=Verdict.EMPTY,
                detail="",
                since=now,
            )
            await store.write_holding(uow, empty, now)


def _since(noted: Holding | None, now: datetime) -> datetime:
    """Since when something lies there: what was empty begins now."""
    return now if noted is None or noted.verdict is Verdict.EMPTY else noted.since


def _owner(balance: Balance) -> UUID:
    if balance.key.owner is None:
        raise InvariantViolated("a vault's account has no owner")
    return balance.key.owner


def _whole_owners(page: Sequence[Balance], limit: int) -> Sequence[Balance]:
    """The page without its last owner, of whose accounts some may be on the next one."""
    if len(page) < limit:
        return page
    last = _owner(page[-1])
    return [each for each in page if _owner(each) != last] or page
