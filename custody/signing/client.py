"""The only way to the signer: one request on one connection over a Unix socket, with three ways to end.

Done returns a value. Refused raises SignerRefused, which judges the request and is final. Unknown raises SigningUnknown: the
request was sent and the answer was lost, so the same request has to be made again (the signer's journal makes it the same
answer). SignerUnreachable and SignerUndecided say that nothing was done; the same request may be made later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from custody.chains.address import curve_of
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId
from custody.policy.model import (
    AddressList,
    AllowRule,
    ApprovalPolicy,
    Approver,
    Decision,
    Demand,
    Governance,
    Hours,
    ListedAddress,
    Scope,
    Window,
)
from custody.signing.attestations import is_vouched_for
from custody.signing.errors import (
    SignerContradicted,
    SignerRefused,
    SignerUnreachable,
    SigningUnknown,
    refusal,
)
from custody.signing.evidence import build_approval, read_key
from custody.signing.intent_fields import org_name
from custody.signing.intents import digest
from custody.signing.model import (
    CheckpointSignature,
    EvmSlot,
    FeeSlot,
    SignedTransaction,
    SignerHealth,
    SignerKey,
    Slot,
    StellarSlot,
    VouchedKey,
)
from signer.protocol import batch, checkpoint, key_batches, messages, policy_messages, voids
from signer.protocol.wire import FRAME_MAX, MalformedMessage

_LENGTH_BYTES = 4
_Answer = TypeVar("_Answer")


class SignerClient:
    """Speaks `signer.protocol` to one signer. Safe to share between tasks."""

    def __init__(self, socket: str, *, timeout_s: float = 10.0, connections: int = 4) -> None:
        """`socket` is the Unix socket's path; `timeout_s` bounds opening and then answering; `connections` are open at once."""
        self._socket = socket
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(connections)
        self._attesters: dict[TenantId, bytes] = {}

    async def health(self) -> SignerHealth:
        """Whether it can sign."""
        view = await self._ask(messages.Health(), messages.HealthView)
        return SignerHealth(
            policy_version=view.policy_version,
            journal_count=view.journal_count,
            journal_head=view.journal_head,
            policy_hash=view.policy_hash,
            keys=view.keys,
        )

    async def create_key(
        self, *, request_id: UUID, tenant: TenantId, purpose: str, chain: ChainId
    ) -> SignerKey:
        """Let a key be born in the HSM, for vaults of this purpose. Idempotent by `request_id`.

        An automatic rule of the signer's policy for `key_create` has to allow it; otherwise SignerRefused.
        """
        request = messages.CreateKey(
            request_id=str(request_id),
            org=org_name(tenant),
            vault=purpose,
            curve=curve_of(chain),
            label=f"{purpose}-{request_id}",
            storage=_storage(purpose, curve_of(chain)),
        )
        view = await self._ask(request, messages.KeyView)
        asked = (request.org, request.vault, request.curve, request.storage)
        if (view.org, view.vault, view.curve, view.storage) != asked:
            raise SignerContradicted("the key is not the one that was asked for", key_id=view.key_id)
        return SignerKey(
            key_id=view.key_id, curve=view.curve, public_key=view.public_key, account=view.address
        )

    async def create_keys(
        self, *, request_id: UUID, tenant: TenantId, purpose: str, count: int
    ) -> list[VouchedKey]:
        """So many secp256k1 keys (at most BATCH_MAX), kept wrapped. Idempotent by `request_id`: a lost answer is given again.

        The automatic rule that `create_key` needs has to allow each of them. Where it stops in the middle (SignerRefused), the
        same request later makes the others.
        """
        request = key_batches.CreateKeys(
            request_id=str(request_id), org=org_name(tenant), vault=purpose, label=purpose, count=count
        )
        keys = await self._ask(request, key_batches.KeyBatch)
        made = self._check_batch(tenant, purpose, keys)
        if len({key.key_id for key in made}) != count or len(made) != count:
            raise SignerContradicted("these are not the keys that were asked for", request_id=request_id)
        return made

    async def vouch_for(self, tenant: TenantId, purpose: str, key_ids: Sequence[str]) -> list[VouchedKey]:
        """The signer's word, asked for now, for keys that it has. Raises SignerRefused with the reason `unknown_key` when one of
        them is none of the tenant's."""
        request = key_batches.AttestKeys(org=org_name(tenant), key_ids=tuple(key_ids))
        keys = await self._ask(request, key_batches.KeyBatch)
        if any(key.vault != purpose for key in keys.keys):
            raise SignerRefused(reason="unknown_key", text="the key is one of another vault")
        found = self._check_batch(tenant, purpose, keys)
        if [key.key_id for key in found] != list(key_ids):
            raise SignerContradicted("the answer is about other keys", tenant=tenant)
        return found

    async def attester(self, tenant: TenantId) -> bytes:
        """Public half of the key that vouches for the tenant's keys. Asked of the signer once a process, and learned anew with
        each answer: it is never taken from a database. Raises SignerRefused for a tenant without keys."""
        if tenant not in self._attesters:
            await self.vouch_for(tenant, "", ())
        return self._attesters[tenant]

    def _check_batch(self, tenant: TenantId, purpose: str, batch: key_batches.KeyBatch) -> list[VouchedKey]:
        for key in batch.keys:
            good = is_vouched_for(
                tenant,
                purpose,
                key_id=key.key_id,
                public_key=key.public_key,
                attestation=key.attestation,
                attester=batch.attester,
            )
            if batch.org != org_name(tenant) or key.vault != purpose or not good:
                raise SignerContradicted("a key is not vouched for as it was asked", key_id=key.key_id)
        self._attesters[tenant] = batch.attester
        return [
            VouchedKey(key_id=key.key_id, public_key=key.public_key, attestation=key.attestation)
            for key in batch.keys
        ]

    async def get_policy(self) -> ApprovalPolicy:
        """The policy that the signer enforces at this moment."""
        return read_policy(await self._ask(messages.GetPolicy(), policy_messages.PolicyView))

    async def veto(self, intent: bytes, decisions: Sequence[Decision]) -> None:
        """Make a rejection final in the signer too. `decisions` must hold one. Idempotent by the intent."""
        vetoed = await self._ask(
            messages.Veto(intent=intent, approvals=tuple(map(build_approval, decisions))), messages.Vetoed
        )
        _check_digest(intent, vetoed.intent_digest)

    async def void(self, intent: bytes) -> None:
        """Have the signer sign this intent never, before its money is given back. Idempotent. Raises SignerRefused with the
        reason `already_signed` when its bytes exist."""
        answer = await self._ask(voids.Void(intent=intent), voids.Voided)
        _check_digest(intent, answer.intent_digest)

    async def approve_batch(
        self, document: bytes, lines: Sequence[bytes], decisions: Sequence[Decision]
    ) -> None:
        """Have the decisions about a batch stand for its lines; one rejection among them ends all lines that are not signed, and
        is answered with SignerRefused for the reason `vetoed`. Idempotent."""
        request = batch.ApproveBatch(
            batch=document, lines=tuple(lines), approvals=tuple(map(build_approval, decisions))
        )
        answer = await self._ask(request, batch.BatchApproved)
        if answer.batch_digest != batch.digest(document).hex():
            raise SignerContradicted("the answer is about another batch", answered=answer.batch_digest)

    async def sign(self, intent: bytes, decisions: Sequence[Decision], slot: Slot) -> SignedTransaction:
        """The signed transaction of an approved intent in this slot. Idempotent: the same arguments give the same bytes."""
        request = messages.Sign(
            intent=intent, approvals=tuple(map(build_approval, decisions)), binding=_binding(slot)
        )
        signed = await self._ask(request, messages.Signed)
        _check_digest(intent, signed.intent_digest)
        shown = f"0x{signed.tx_hash}" if isinstance(slot, EvmSlot) else signed.tx_hash
        return SignedTransaction(tx=signed.tx, tx_hash=shown)

    async def checkpoint_key(self, *, request_id: UUID, tenant: TenantId) -> str:
        """The id of a key that signs the tenant's checkpoints and nothing else. Idempotent by `request_id`."""
        request = messages.CreateKey(
            request_id=str(request_id),
            org=org_name(tenant),
            vault=checkpoint.VAULT,
            curve="ed25519",
            label=checkpoint.VAULT,
        )
        view = await self._ask(request, messages.KeyView)
        return view.key_id

    async def find_checkpoint_key(self, tenant: TenantId, key_id: str) -> bytes | None:
        """The public key behind this id, or None when it is not a checkpoint key of the tenant."""
        try:
            view = await self._ask(messages.PublicKey(key_id=key_id), messages.KeyView)
        except SignerRefused as error:
            if error.reason == "unknown_key":
                return None
            raise
        ours = (view.org, view.vault) == (org_name(tenant), checkpoint.VAULT)
        return bytes.fromhex(view.public_key) if ours else None

    async def sign_checkpoint(
        self, *, tenant: TenantId, key_id: str, sequence: int, seal_hash: bytes
    ) -> CheckpointSignature:
        """A signature under a seal. Idempotent for the newest; the key never signs another hash under the same number."""
        request = messages.SignCheckpoint(
            key_id=key_id, org=org_name(tenant), sequence=sequence, hash=seal_hash
        )
        signed = await self._ask(request, messages.SignedCheckpoint)
        if (signed.key_id, signed.sequence, signed.hash) != (key_id, sequence, seal_hash):
            raise SignerContradicted("the answer is about another checkpoint", sequence=sequence)
        return CheckpointSignature(
            key_id=key_id, public_key=bytes.fromhex(signed.public_key), signature=signed.signature
        )

    async def _ask(self, request: messages.Request, shape: type[_Answer]) -> _Answer:
        answer = await self._exchange(messages.dump(request))
        if isinstance(answer, messages.Refused):
            raise refusal(answer.code, answer.text)
        if not isinstance(answer, shape):
            raise SignerContradicted(asked=type(request).__name__, answered=type(answer).__name__)
        return answer

    async def _exchange(self, body: bytes) -> messages.Response:
        async with self._free:
            try:
                async with asyncio.timeout(self._timeout_s):
                    reader, writer = await asyncio.open_unix_connection(self._socket)
            except (OSError, TimeoutError) as error:
                raise SignerUnreachable(cause=type(error).__name__) from error
            try:
                async with asyncio.timeout(self._timeout_s):
                    writer.write(len(body).to_bytes(_LENGTH_BYTES, "big") + body)
                    await writer.drain()
                    return messages.load_response(await _receive(reader))
            except (OSError, TimeoutError, EOFError, MalformedMessage) as error:
                raise SigningUnknown(cause=type(error).__name__) from error
            finally:
                writer.close()


async def _receive(reader: asyncio.StreamReader) -> bytes:
    """One framed body. asyncio.IncompleteReadError, an EOFError, says that the signer hung up."""
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if length > FRAME_MAX:
        raise MalformedMessage("too_long")
    return await reader.readexactly(length)


def _storage(purpose: str, curve: str) -> str:
    """Deposit keys on EVM are one per customer and so many that no token holds them all; others live in the token."""
    return "wrapped" if purpose == "deposit" and curve == "secp256k1" else "token"


def _check_digest(intent: bytes, answered: str) -> None:
    expected = digest(intent).hex()
    if answered != expected:
        raise SignerContradicted("the answer is about another intent", expected=expected, answered=answered)


def _binding(slot: Slot) -> messages.Binding:
    if isinstance(slot, StellarSlot):
        return messages.StellarBinding(
            sequence=slot.sequence,
            max_time=slot.max_time,
            min_ledger=0,
            max_ledger=slot.max_ledger,
            fee=slot.fee,
        )
    if isinstance(slot, FeeSlot):
        return messages.FeeBinding(fee=slot.fee)
    return messages.EvmBinding(
        nonce=slot.nonce,
        max_fee_per_gas=slot.max_fee_per_gas,
        max_priority_fee_per_gas=slot.max_priority_fee_per_gas,
    )


def read_policy(view: policy_messages.PolicyView) -> ApprovalPolicy:
    """The signer's policy in this side's words."""
    return ApprovalPolicy(
        version=view.version,
        approver_set_version=view.approver_set_version,
        policy_hash=view.policy_hash,
        approvers=tuple(
            Approver(id=each.id, keys=tuple(map(read_key, each.keys)), groups=each.groups)
            for each in view.approvers
        ),
        address_book=tuple(
            AddressList(
                name=each.name,
                entries=tuple(
                    ListedAddress(chain=one.chain, address=one.address, label=one.label)
                    for one in each.entries
                ),
            )
            for each in view.address_book
        ),
        governance=Governance(
            approvals=_demands(view.governance.approvals), cool_down_s=view.governance.cool_down_s
        ),
        deny=tuple(_scope(each) for each in view.deny),
        allow=tuple(_allow(each) for each in view.allow),
    )


def _allow(rule: policy_messages.RuleView) -> AllowRule:
    return AllowRule(
        scope=_scope(rule),
        amount_max=rule.amount_max,
        fee_max=rule.fee_max,
        windows=tuple(
            Window(seconds=each.seconds, amount_max=each.amount_max, count_max=each.count_max)
            for each in rule.windows
        ),
        hours=tuple(Hours(days=each.days, start=each.start, end=each.end) for each in rule.hours),
        approvals=_demands(rule.approvals),
        cool_down_s=rule.cool_down_s,
    )


def _demands(views: tuple[policy_messages.DemandView, ...]) -> tuple[Demand, ...]:
    return tuple(Demand(group=each.group, threshold=each.threshold) for each in views)


def _scope(rule: policy_messages.RuleView | policy_messages.DenyRuleView) -> Scope:
    return Scope(
        id=rule.id,
        org=rule.org,
        vault=rule.vault,
        key=rule.key,
        chain=rule.chain,
        kind=rule.kind,
        asset=rule.asset,
        destinations=rule.destinations,
    )
