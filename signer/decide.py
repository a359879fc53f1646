"""What the signer does with a request. Read it aloud: every way to a transaction's signature goes through `Decider.sign`.

One lock makes decisions one after another, each against all decided before, so that two requests can neither share a slot nor
slip under a limit together. What was decided is made durable; only then, outside the lock, does the HSM sign; and only when the
signed bytes are durable too does the answer leave.
"""

import threading
from collections.abc import Sequence

from signer.admission import Keys, wrapped_key
from signer.batches import take_batch
from signer.build import stellar
from signer.build.address import address_of, check_addresses, curve_of
from signer.build.assembly import build_unsigned, finish, message_of
from signer.cases import Case, Outcome, open_case, read_intent
from signer.checkpoints import sign_checkpoint
from signer.effects import asset_of, moved_by
from signer.explaining import explain_governance, view_ruling
from signer.facts import Bound, IntentVetoed, TransactionSigned
from signer.governance import adopt_due, change_policy, policy_document, show_policy, veto_governance
from signer.key_states import check_may_sign
from signer.keyring import Keyring
from signer.lines import approved_with_batch, effect_of_line
from signer.policy.ruling import Ruling, denied
from signer.protocol.approvals import Approval
from signer.protocol.attestation import STATEMENT_VAULTS
from signer.protocol.batch import ApproveBatch, BatchApproved
from signer.protocol.governance import is_governance
from signer.protocol.intent import EvmReplace, Intent, StellarIntent
from signer.protocol.messages import (
    Binding,
    ChangePolicy,
    Explain,
    Explained,
    GetPolicyDocument,
    HealthView,
    Sign,
    SignCheckpoint,
    Signed,
    SignedCheckpoint,
    Veto,
    Vetoed,
)
from signer.protocol.policy_messages import PolicyChanged, PolicyDocument, PolicyView
from signer.protocol.stops import ListStops, Resume, Resumed, Stop, StopList, Stopped
from signer.protocol.voids import Void, Voided
from signer.quorum import Tally, tally
from signer.record import Record
from signer.references import References, cosigns, resolve
from signer.refusal import HsmFault, Refusal
from signer.replacing import rule_replacement, tally_replacement
from signer.slots import check_slot, slot_of
from signer.stops import list_stops, order_stop, refuse_stopped, resume
from signer.verdicts import demand_allowed, judge, stop_at_veto
from signer.voids import void_intent


class Decider:
    """All decisions of one signer. Safe for concurrent use."""

    def __init__(self, record: Record, keys: Keys, ceremony: frozenset[bytes] = frozenset()) -> None:
        """`ceremony`: keys that need not be born inside, by public key or, for a wrapping key, by fingerprint."""
        self._record = record
        self.keyring = Keyring(record, keys, ceremony)
        self._keys = keys
        self._stripes = [threading.Lock() for _ in range(256)]
        """By the digest's first byte: of one intent only one signature is made at a time."""

    def sign(self, request: Sign) -> Signed:
        """Return the signed transaction of an approved intent. Idempotent by the intent's digest.

        Raises Refusal, or HsmFault after which the same request may be sent again.
        """
        (outcome,) = self.sign_all([request])
        if not isinstance(outcome, Signed):
            raise outcome
        return outcome

    def sign_all(self, requests: Sequence[Sign]) -> list[Outcome]:
        """Answer requests that came together, each by itself: decided in this order, made durable together."""
        cases = [open_case(request) for request in requests]
        opened = [case for case in cases if isinstance(case, Case)]
        try:
            try:
                with self._record.deciding():
                    for case in opened:
                        self._decide(case)
                for case in opened:
                    self._sign_once(case)
                self._record.settle(self._record.newest)
            finally:
                self._land(opened)
        except (Refusal, HsmFault) as failure:
            return [failure] * len(cases)
        return [case.outcome() if isinstance(case, Case) else case for case in cases]

    def veto(self, request: Veto) -> Vetoed:
        """Make a rejection final. Idempotent. Raises Refusal, also when the intent is signed or carried out already."""
        if is_governance(request.intent):
            with self._record.deciding():
                return veto_governance(self._record, request)
        intent, digest = read_intent(request.intent)
        vetoed = Vetoed(intent_digest=digest.hex())
        with self._record.deciding():
            if digest in self._record.state.vetoed:
                return vetoed
            adopt_due(self._record)
            votes = self._tally(intent, digest, request.approvals)
            if not votes.rejected:
                raise Refusal("no_veto", "no valid rejection was given")
            if digest in self._record.state.signed or digest in self._record.state.under_way:
                raise Refusal("already_signed", "the intent's transaction is signed already")
            self._record.append(
                IntentVetoed(digest=digest, intent=request.intent, approval=votes.rejected[0])
            )
            return vetoed

    def void(self, request: Void) -> Voided:
        """Never sign an intent that its requester has given up. Idempotent. Raises Refusal, also when it is signed."""
        intent, digest = read_intent(request.intent)
        with self._record.deciding():
            return void_intent(self._record, request, intent, digest)

    def sign_checkpoint(self, request: SignCheckpoint) -> SignedCheckpoint:
        """Sign the head of a seal chain. Idempotent for the newest. Raises Refusal or HsmFault."""
        with self._record.deciding():
            return sign_checkpoint(self._record, self._keys.sign, request)

    def take_batch(self, request: ApproveBatch) -> BatchApproved:
        """Let the approvals of a batch stand for its lines. Idempotent. Raises Refusal."""
        with self._record.deciding():
            return take_batch(self._record, request)

    def order_stop(self, request: Stop) -> Stopped:
        """Sign nothing more in one place, as one approver orders. Idempotent. Raises Refusal."""
        with self._record.deciding():
            return order_stop(self._record, request)

    def resume(self, request: Resume) -> Resumed:
        """End a stop as the quorum agrees. Idempotent. Raises Refusal."""
        with self._record.deciding():
            return resume(self._record, request)

    def list_stops(self, request: ListStops) -> StopList:
        """Return the stops that stand in an org."""
        with self._record.deciding():
            return list_stops(self._record, request)

    def explain(self, request: Explain) -> Explained:
        """Tell which rule decides now and what is missing; changes nothing but that a due policy takes effect."""
        if is_governance(request.intent):
            with self._record.deciding():
                return explain_governance(self._record, request)
        intent, digest = read_intent(request.intent)
        with self._record.deciding():
            try:
                votes = self._admit(intent, digest, request.approvals)
                ruling = denied("vetoed", "") if votes.rejected else self._rule(intent, digest, votes)
            except Refusal as refusal:
                ruling = denied(refusal.code, "")
        return view_ruling(ruling, digest)

    def change_policy(self, request: ChangePolicy) -> PolicyChanged:
        """Accept an approved change of the policy. Idempotent by the intent. Raises Refusal."""
        with self._record.deciding():
            return change_policy(self._record, request)

    def show_policy(self) -> PolicyView:
        """Return the policy in force and the change that waits."""
        with self._record.deciding():
            return show_policy(self._record)

    def policy_document(self, request: GetPolicyDocument) -> PolicyDocument:
        """Return the bytes of one version of the policy; raises Refusal("unknown_policy")."""
        with self._record.deciding():
            return policy_document(self._record, request.version)

    def health(self) -> HealthView:
        """Return the counts; raises Refusal when the record is not sound, HsmFault when the token does not answer."""
        with self._record.deciding():
            adopt_due(self._record)
            version, keys = self._record.policy.version, len(self._record.state.public_keys)
        anchor = self._record.check_anchor()
        return HealthView(
            policy_version=version,
            journal_count=anchor.count,
            journal_head=anchor.head.hex(),
            policy_hash=anchor.policy_hash.hex(),
            keys=keys,
        )

    def _decide(self, case: Case) -> None:
        """Recall what is signed already, or bind an allowed intent so that it may be signed once that is durable."""
        signed = self._record.state.signed.get(case.digest)
        try:
            if signed is not None:
                self._check_binding_unchanged(case.digest, case.request.binding)
                case.result = signed
                return
            self.allow(case)
        except Refusal as refusal:
            case.result = _busy() if self._record.state.under_way[case.digest] else refusal
            return
        self._record.state.under_way[case.digest] += 1

    def allow(self, case: Case) -> None:
        """Decide about an intent that is not signed yet, and bind it; or raise Refusal. The caller holds the signer's lock.

        An audit (`signer.audit`) decides what the journal holds again by this.
        """
        request, intent, record = case.request, case.intent, self._record
        votes = self._admit(intent, case.digest, request.approvals)
        if votes.rejected and record.state.under_way[case.digest]:
            raise _busy()
        stop_at_veto(record, request.intent, case.digest, votes)
        ruling = self._rule(intent, case.digest, votes)
        demand_allowed(record, ruling, request.intent, case.digest, request.approvals)
        found = resolve(record.state, intent)
        unsigned = build_unsigned(
            intent, request.binding, found.earlier, record.policy.networks, record.now()
        )
        self._bind(request, intent, case.digest, unsigned, ruling, found)
        case.unsigned, case.found = unsigned, found

    def _sign_once(self, case: Case) -> None:
        """Sign what is bound durably; whoever asked for the same meanwhile waits here for the same bytes."""
        if case.found is None:
            return
        with self._stripes[case.digest[0]]:
            signed = self._record.state.signed.get(case.digest)
            if signed is None:
                try:
                    tx, tx_hash = self._sign_bytes(case.intent, case.unsigned, case.found)
                except (Refusal, HsmFault) as failure:
                    case.result = failure
                    return
                signed = TransactionSigned(digest=case.digest, tx=tx, tx_hash=tx_hash)
                with self._record.lock:
                    try:
                        # Ordered meanwhile: these bytes are nowhere but here, and end here.
                        refuse_stopped(self._record.state, case.intent, case.found.slot_key)
                    except Refusal as refusal:
                        case.result = refusal
                        return
                    self._record.append(signed)
            case.result = signed

    def _land(self, cases: Sequence[Case]) -> None:
        with self._record.lock:
            under_way = self._record.state.under_way
            under_way.subtract(case.digest for case in cases if case.found is not None)
            self._record.state.under_way = +under_way

    def _admit(self, intent: Intent, digest: bytes, approvals: tuple[Approval, ...]) -> Tally:
        """Check all that does not depend on the rules; return the verified votes."""
        adopt_due(self._record)
        policy, state = self._record.policy, self._record.state
        key = state.reserved.get(intent.key_id)
        public_key = state.public_keys.get(intent.key_id)
        if key is None or public_key is None or (key.org, key.vault) != (intent.org, intent.vault):
            raise Refusal("unknown_key", "the key is not one of this org and vault")
        if key.vault in STATEMENT_VAULTS:
            raise Refusal("key_purpose", "such a key signs no transaction, whatever the policy says")
        own = address_of(key.curve, public_key) == intent.source
        if key.curve != curve_of(intent) or not (own or cosigns(policy, intent)):
            raise Refusal("source_mismatch", "the source is not the key's address on this chain")
        check_may_sign(state, intent)
        check_addresses(intent)
        if isinstance(intent, StellarIntent):
            stellar.check_network(intent, policy.networks)
        if intent.policy_version != policy.version:
            raise Refusal("wrong_policy_version", f"policy version {policy.version} is in force")
        now = self._record.now()
        if now < intent.not_before:
            raise Refusal("not_yet", "the intent is not valid yet")
        if now >= intent.expires_at:
            raise Refusal("expired", "the intent is no longer valid")
        if digest in state.vetoed:
            raise Refusal("vetoed", "an approver rejected it")
        if digest in state.voided:
            raise Refusal("voided", "the requester gave it up")
        # Here for its refusals, so that `explain` tells of them too; what it finds is looked up again when it is used.
        resolve(state, intent)
        try:
            return self._tally(intent, digest, approvals)
        except Refusal as refusal:
            if not isinstance(intent, EvmReplace):
                raise
            return tally_replacement(self._record, intent, refusal, approvals)

    def _tally(self, intent: Intent, digest: bytes, approvals: tuple[Approval, ...]) -> Tally:
        if not approvals:
            approved = approved_with_batch(self._record.state, self._record.policy, digest)
            return Tally(digest=digest, approved=approved, rejected=())
        return tally(
            self._record.policy,
            approvals,
            digest=digest,
            initiator=intent.initiator,
            not_before=intent.not_before,
            counters=self._record.state.counters,
        )

    def _rule(self, intent: Intent, digest: bytes, votes: Tally) -> Ruling:
        if self._record.state.stopped:
            refuse_stopped(self._record.state, intent, resolve(self._record.state, intent).slot_key)
        if isinstance(intent, EvmReplace):
            return rule_replacement(self._record, intent, digest, votes)
        effect = effect_of_line(self._record.state, intent, digest)
        return judge(self._record, effect, digest, votes.approved)

    def _bind(
        self, request: Sign, intent: Intent, digest: bytes, unsigned: bytes, ruling: Ruling, found: References
    ) -> None:
        """Give the intent its one transaction, on disk, before anything is signed."""
        state, binding = self._record.state, request.binding
        bound = state.bound.get(digest)
        if bound is not None:
            self._check_binding_unchanged(digest, binding)
            if bound.unsigned != unsigned:
                raise Refusal("already_bound", "the intent is bound to other bytes")
            return
        slot = slot_of(intent, binding, found.slot_owner)
        check_slot(state, slot, intent, binding, self._record.now())
        self._record.append(
            Bound(
                digest=digest,
                intent=request.intent,
                approvals=request.approvals,
                rule=ruling.rule,
                binding=binding,
                unsigned=unsigned,
                key_id=intent.key_id,
                chain=intent.chain,
                slot_key=slot.key_id,
                slot=slot.number,
                replaces=slot.replaces,
                org=intent.org,
                vault=intent.vault,
                asset=asset_of(intent),
                amount=moved_by(intent),
            )
        )

    def _check_binding_unchanged(self, digest: bytes, binding: Binding) -> None:
        if self._record.state.bound[digest].binding != binding:
            raise Refusal("already_bound", "the intent is bound to another sequence, nonce or fee")

    def _sign_bytes(self, intent: Intent, unsigned: bytes, found: References) -> tuple[bytes, str]:
        """Sign with the intent's key and, when another lends the sequence number, with that one too."""
        message, signatures = message_of(intent, unsigned), {}
        for key_id in dict.fromkeys((intent.key_id, found.slot_key)):
            signature = self._sign_message(key_id, curve_of(intent), message)
            signatures[self._record.state.public_keys[key_id]] = signature
        holder = self._record.state.public_keys[intent.key_id]
        return finish(intent, unsigned, signatures, self._record.policy.networks, holder)

    def _sign_message(self, key_id: str, curve: str, message: bytes) -> bytes:
        wrapped = self._record.state.wrapped.get(key_id)
        if wrapped is None:
            return self._keys.sign(bytes.fromhex(key_id), curve, message)
        return self._keys.sign_wrapped(wrapped_key(wrapped), message)


def _busy() -> Refusal:
    """What every refusal is while the same intent, allowed before, is being signed: its bytes may leave at any moment, and
    whoever is told that it is refused for good gives the money back.
    """
    return Refusal("busy", "the intent's signature is being made; ask again")
