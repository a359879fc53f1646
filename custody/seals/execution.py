"""Seal and have it signed: the row first, the signer between two transactions, safe to repeat at any point. Hold anchors against
their chains, with no transaction open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from custody.db.session import Database
from custody.kernel.assetid import ChainId
from custody.kernel.errors import InvariantViolated, Unavailable
from custody.kernel.ids import TenantId, derived_uuid
from custody.seals import anchors, chain, publication, service
from custody.seals.model import AnchorView, Checkpoint, Seal
from custody.seals.ports import AnchorWitness, CheckpointSigner
from custody.signing.checkpoints import message_of

_SEALS_AT_ONCE = 100


class SignatureWrong(InvariantViolated):
    """The signer answered a signature that does not verify. Nothing is kept."""

    code = "checkpoint_signature_wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorCheck:
    """A settled anchor and what its chain said."""

    view: AnchorView
    """The anchor."""
    unchecked: str
    """Why the chain could not be asked, or could not tell; empty when it carries the seal's hash."""


async def seal_and_sign(
    db: Database, signer: CheckpointSigner, tenant: TenantId, key_id: str | None = None
) -> list[Seal]:
    """Seal everything that can be sealed, then sign every seal that waits; returns the seals made.

    `key_id` names another checkpoint key than the one that signed last: the way on after the loss of sealed rows was accepted.
    """
    made = []
    while True:
        async with db.unit_of_work(tenant) as uow:
            seal = await service.seal_next(uow)
        if seal is None:
            break
        made.append(seal)
    await _sign_waiting(db, signer, tenant, key_id)
    return made


async def publish_due(db: Database, tenant: TenantId, every: timedelta) -> int | None:
    """Publish what is owed at the newest checkpoint when the one published last is so much older. Its number if so."""
    async with db.unit_of_work(tenant) as uow:
        return await publication.publish_due(uow, every)


async def _sign_waiting(db: Database, signer: CheckpointSigner, tenant: TenantId, key_id: str | None) -> None:
    while True:
        async with db.read(tenant) as session:
            waiting = await service.unsigned(session, _SEALS_AT_ONCE)
            key_id = key_id or await service.signing_key(session)
        if not waiting:
            return
        if key_id is None:
            key_id = await signer.checkpoint_key(request_id=key_request(tenant), tenant=tenant)
        for seal in waiting:
            await _sign(db, signer, seal, key_id)


async def _sign(db: Database, signer: CheckpointSigner, seal: Seal, key_id: str) -> None:
    signed = await signer.sign_checkpoint(
        tenant=seal.tenant, key_id=key_id, sequence=seal.sequence, seal_hash=seal.hash
    )
    checkpoint = Checkpoint(
        tenant=seal.tenant,
        sequence=seal.sequence,
        key_id=signed.key_id,
        public_key=signed.public_key,
        signature=signed.signature,
    )
    if not chain.is_signed(checkpoint, message_of(seal.tenant, seal.sequence, seal.hash)):
        raise SignatureWrong(tenant=seal.tenant, sequence=seal.sequence)
    async with db.unit_of_work(seal.tenant) as uow:
        await service.record_checkpoint(uow, checkpoint)


def key_request(tenant: TenantId, reason: str = "first") -> UUID:
    """Under which request a tenant's checkpoint key is created, so that repeating the call creates no second one."""
    return derived_uuid("checkpoint-key", tenant, reason)


async def trusted_keys(db: Database, signer: CheckpointSigner, tenant: TenantId) -> frozenset[bytes]:
    """The public keys that the signer vouches for, of those that are said to have signed this tenant's checkpoints."""
    async with db.read(tenant) as session:
        named = await service.key_ids(session)
    found = [await signer.find_checkpoint_key(tenant, key_id) for key_id in named]
    return frozenset(key for key in found if key is not None)


async def check_anchors(
    db: Database, witnesses: Mapping[ChainId, AnchorWitness], tenant: TenantId
) -> list[AnchorCheck]:
    """Hold every settled anchor against its chain. Raises HistoryAltered at the first that the chain contradicts."""
    async with db.read(tenant) as session:
        views = await anchors.list_anchors(session)
    return [
        AnchorCheck(view=view, unchecked=await _ask(witnesses.get(view.anchor.chain), view))
        for view in views
        if view.state == anchors.SETTLED
    ]


async def _ask(witness: AnchorWitness | None, view: AnchorView) -> str:
    if witness is None:
        return "its chain is not configured"
    if view.tx_hash is None:
        raise InvariantViolated(
            "a settled anchor without a transaction", anchor=str(view.anchor.withdrawal_id)
        )
    try:
        return anchors.check_written(view, await witness.find_transaction(view.tx_hash)) or ""
    except Unavailable as error:
        return f"the node does not answer ({error.code})"
