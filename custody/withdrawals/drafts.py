"""What every request to use a vault's key begins with: who asks for what, under which policy, until when."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from custody.chains.errors import UnsupportedChain
from custody.db.session import UnitOfWork
from custody.identity.model import Principal
from custody.kernel.assetid import AssetId
from custody.kernel.clock import Clock
from custody.kernel.ids import PrincipalId, TenantId, WithdrawalId
from custody.policy import service as policies
from custody.policy.errors import PolicyDenies
from custody.policy.evaluate import evaluate
from custody.policy.model import Standing, Verdict
from custody.settings import ChainSettings, Settings
from custody.signing import intents
from custody.signing.intent_fields import EvmCaps, Source, StellarCaps
from custody.wallets.model import Vault
from custody.withdrawals import store
from custody.withdrawals.errors import UnsupportedAsset
from custody.withdrawals.model import Withdrawal
from custody.withdrawals.moves import WORKER, announce, move
from custody.withdrawals.stops import refuse_stopped

CLOCK_SKEW_S = 60
"""An intent is valid from a little before it was made, for a signer whose clock is behind ours."""


def worker_principal(tenant: TenantId) -> Principal:
    """Who asks for what nobody asked for: the worker, under no credential. As any initiator it can approve nothing."""
    return Principal(tenant=tenant, id=PrincipalId(UUID(int=0)), subject=WORKER, scopes=frozenset())


async def begin(uow: UnitOfWork, new: Withdrawal, verdict: Verdict) -> Withdrawal:
    """Write a new operation that pays nobody outside, and tell of it; approved at once when the policy asks nobody.

    What pays somebody outside begins in `clearance`. Raises StoppedBySwitch."""
    await refuse_stopped(uow, new)
    await store.insert_withdrawal(uow, new)
    await announce(uow, new, new.initiator)
    exempt = await move(uow, new, "exempt", actor=new.initiator)
    if verdict.standing is Standing.APPROVED:
        return await move(uow, exempt, "approve", actor="policy", detail={"rule": verdict.rule})
    return exempt


async def allowed(uow: UnitOfWork, intent: bytes) -> Verdict:
    """How the policy in force stands towards an intent that nobody has decided about. Raises PolicyDenies, PolicyUnknown."""
    verdict = evaluate(await policies.current(uow), intents.facts_of(intent), ())
    if verdict.standing is Standing.DENIED:
        raise PolicyDenies(reason=verdict.reason, rule=verdict.rule)
    return verdict


async def source(
    uow: UnitOfWork,
    principal: Principal,
    withdrawal_id: WithdrawalId,
    vault: Vault,
    settings: Settings,
    clock: Clock,
) -> Source:
    """Who pays and who asks, under which policy and until when. Raises PolicyUnknown."""
    now = int(clock.now().timestamp())
    return Source(
        tenant=uow.tenant,
        purpose=vault.purpose,
        key_id=vault.key_id,
        chain=vault.chain,
        account=vault.account,
        request_id=withdrawal_id,
        initiator=principal.subject,
        policy_version=(await policies.current(uow)).version,
        not_before=now - CLOCK_SKEW_S,
        expires_at=now + settings.intent_valid_s,
    )


def configured(settings: Settings, asset: AssetId) -> ChainSettings:
    """The settings of the asset's chain. Raises UnsupportedAsset."""
    try:
        return settings.chain(asset.chain)
    except LookupError as error:
        raise UnsupportedAsset(asset=asset.text) from error


def stellar_caps(chain: ChainSettings) -> StellarCaps:
    """What a Stellar intent allows beyond its effect. Raises UnsupportedChain on a chain of another kind."""
    if chain.kind != "stellar":
        raise UnsupportedChain(chain=chain.id)
    return StellarCaps(network_passphrase=chain.network_passphrase, max_fee=chain.max_fee_stroops)


def evm_caps(chain: ChainSettings, asset: AssetId) -> EvmCaps:
    """What an EVM intent allows beyond its effect."""
    return EvmCaps(
        chain_id=chain.chain_id,
        gas_limit=chain.gas_limit_native if asset.is_native else chain.gas_limit_erc20,
        max_fee_per_gas=chain.max_fee_per_gas_wei,
        max_priority_fee_per_gas=chain.max_priority_fee_per_gas_wei,
    )


def moment(unix_s: int) -> datetime:
    """Unix seconds as a moment."""
    return datetime.fromtimestamp(unix_s, UTC)
