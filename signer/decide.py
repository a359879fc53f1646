"""What the signer does with a request. Read it aloud: every way to a transaction's signature goes through `Decider.sign`.

One lock makes decisions one after another, so that two requests can neither share a slot nor slip under a
limit together.
"""

import re
import secrets
import threading
from typing import Protocol

from signer.build import stellar
from signer.build.address import address_of, check_addresses, curve_of
from signer.build.assembly import build_unsigned, finish, message_of
from signer.checkpoints import check_first_key, sign_checkpoint
from signer.effects import asset_of, moved_by
from signer.explaining import explain_governance, view_ruling
from signer.facts import Bound, IntentVetoed, KeyCreated, KeyReserved, TransactionSigned
from signer.governance import (
    adopt_due,
    change_policy,
    policy_document,
    read_governance,
    show_policy,
    veto_governance,
)
from signer.key_orders import (
    FIRST_CHECKPOINT_KEY,
    Warrant,
    as_request,
    change_state,
    warrant_by_people,
    warrant_by_rule,
)
from signer.key_states import check_may_sign
from signer.policy.effect import effect_of
from signer.policy.ruling import Ruling, denied
from signer.protocol import canonical
from signer.protocol.approvals import Approval
from signer.protocol.checkpoint import VAULT as CHECKPOINTS
from signer.protocol.governance import KeyCreate, KeyStateChange, is_governance
from signer.protocol.intent import Intent, StellarIntent
from signer.protocol.messages import (
    CURVES,
    Binding,
    ChangeKey,
    ChangePolicy,
    CreateKey,
    Explain,
    Explained,
    GetPolicyDocument,
    HealthView,
    KeyList,
    KeyView,
    Sign,
    SignCheckpoint,
    Signed,
    SignedCheckpoint,
    Veto,
    Vetoed,
)
from signer.protocol.policy_messages import (
    PolicyChanged,
    PolicyDocument,
    PolicyView,
)
from signer.quorum import Tally, tally
from signer.record import Record
from signer.references import References, resolve
from signer.refusal import Refusal
from signer.slots import check_slot, slot_of
from signer.verdicts import demand_allowed, judge, stop_at_veto

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")


class Keys(Protocol):
    """The signing keys, by reference only."""

    def generate(self, key_id: bytes, label: str, curve: str) -> bytes:
        """Generate the pair under this id, or find it; return the public key. Raises HsmFault."""

    def sign(self, key_id: bytes, curve: str, message: bytes) -> bytes:
        """Return a 64-byte signature over 32 bytes. Raises HsmFault."""


class Decider:
    """All decisions of one signer. Safe for concurrent use."""

    def __init__(self, record: Record, keys: Keys) -> None:
        self._record = record
        self._keys = keys
        self._lock = threading.Lock()

    def sign(self, request: Sign) -> Signed:
        """Return the signed transaction of an approved intent. Idempotent by the intent's digest.

        Raises Refusal, or HsmFault after which the same request may be sent again.
        """
        intent, digest = _read_intent(request.intent)
        with self._lock:
            self._record.check_sound()
            signed = self._record.state.signed.get(digest)
            if signed is not None:
                self._check_binding_unchanged(digest, request.binding)
                return Signed(tx=signed.tx, tx_hash=signed.tx_hash, intent_digest=digest.hex())
            votes = self._admit(intent, digest, request.approvals)
            stop_at_veto(self._record, request.intent, digest, votes)
            ruling = self._rule(intent, digest, votes)
            demand_allowed(self._record, ruling, request.intent, digest, request.approvals)
            found = resolve(self._record.state, intent)
            unsigned = build_unsigned(
                intent, request.binding, found.earlier, self._record.policy.networks, self._record.now()
            )
            self._bind(request, intent, digest, unsigned, ruling, found)
            tx, tx_hash = self._sign_bytes(intent, unsigned, found)
            self._record.append(TransactionSigned(digest=digest, tx=tx, tx_hash=tx_hash))
            return Signed(tx=tx, tx_hash=tx_hash, intent_digest=digest.hex())

    def veto(self, request: Veto) -> Vetoed:
        """Make a rejection final. Idempotent. Raises Refusal, also when the intent is signed or carried out already."""
        if is_governance(request.intent):
            with self._lock:
                self._record.check_sound()
                return veto_governance(self._record, request)
        intent, digest = _read_intent(request.intent)
        with self._lock:
            self._record.check_sound()
            if digest in self._record.state.vetoed:
                return Vetoed(intent_digest=digest.hex())
            adopt_due(self._record)
            votes = tally(self._record.policy, request.approvals, digest=digest, initiator=intent.initiator)
            if not votes.rejected:
                raise Refusal("no_veto", "no valid rejection was given")
            if digest in self._record.state.signed:
                raise Refusal("already_signed", "the intent's transaction is signed already")
            self._record.append(
                IntentVetoed(digest=digest, intent=request.intent, approval=votes.rejected[0])
            )
            return Vetoed(intent_digest=digest.hex())

    def sign_checkpoint(self, request: SignCheckpoint) -> SignedCheckpoint:
        """Sign the head of a seal chain. Idempotent for the newest. Raises Refusal or HsmFault."""
        with self._lock:
            self._record.check_sound()
            return sign_checkpoint(self._record, self._keys.sign, request)

    def explain(self, request: Explain) -> Explained:
        """Tell which rule decides now and what is missing; changes nothing."""
        if is_governance(request.intent):
            with self._lock:
                return explain_governance(self._record, request)
        intent, digest = _read_intent(request.intent)
        with self._lock:
            try:
                votes = self._admit(intent, digest, request.approvals)
                ruling = denied("vetoed", "") if votes.rejected else self._rule(intent, digest, votes)
            except Refusal as refusal:
                ruling = denied(refusal.code, "")
        return view_ruling(ruling, digest)

    def change_policy(self, request: ChangePolicy) -> PolicyChanged:
        """Accept an approved change of the policy. Idempotent by the intent. Raises Refusal."""
        with self._lock:
            self._record.check_sound()
            return change_policy(self._record, request)

    def show_policy(self) -> PolicyView:
        """Return the policy in force and the change that waits."""
        with self._lock:
            return show_policy(self._record)

    def policy_document(self, request: GetPolicyDocument) -> PolicyDocument:
        """Return the bytes of one version of the policy; raises Refusal("unknown_policy")."""
        with self._lock:
            return policy_document(self._record, request.version)

    def change_key(self, request: ChangeKey) -> KeyView:
        """Create a key, or let one into another state, as people approved. Idempotent by the intent. Raises Refusal, HsmFault."""
        intent, digest = read_governance(request.intent)
        with self._lock:
            self._record.check_sound()
            if isinstance(intent, KeyCreate):
                asked = as_request(intent)
                self._check_key_request(asked)
                return self._create_key(asked, warrant_by_people(self._record, intent, digest, request))
            if not isinstance(intent, KeyStateChange):
                raise Refusal("bad_request", "a change of the policy is not one of a key")
            change_state(self._record, intent, digest, request)
            return self._view(self._record.state.reserved[intent.key_id])

    def create_key(self, request: CreateKey) -> KeyView:
        """Generate a key pair in the HSM that a rule allows without people. Idempotent by `request_id`; its id is journaled
        before it exists.
        """
        self._check_key_request(request)
        with self._lock:
            self._record.check_sound()
            return self._create_key(request, warrant_by_rule(self._record, request))

    def create_first_checkpoint_key(self, request: CreateKey) -> KeyView:
        """The same on behalf of a requester, who gets one checkpoint key for an org that has a key, and no more."""
        self._check_key_request(request)
        with self._lock:
            self._record.check_sound()
            check_first_key(self._record.state, request)
            return self._create_key(request, FIRST_CHECKPOINT_KEY)

    @staticmethod
    def _check_key_request(request: CreateKey) -> None:
        for value in (request.request_id, request.org, request.vault, request.label):
            if not _NAME.fullmatch(value):
                raise Refusal(
                    "bad_request", "request_id, org, vault and label are names of at most 64 characters"
                )
        if request.curve not in CURVES:
            raise Refusal("bad_request", "the curve is ed25519 or secp256k1")
        if request.vault == CHECKPOINTS and request.curve != "ed25519":
            raise Refusal("bad_request", "a checkpoint key is an ed25519 key")

    def _create_key(self, request: CreateKey, warrant: Warrant) -> KeyView:
        reserved = self._reserve_key(request, warrant)
        if reserved.key_id not in self._record.state.public_keys:
            name = f"{reserved.org}/{reserved.vault}/{reserved.curve}/{reserved.label}"
            public_key = self._keys.generate(bytes.fromhex(reserved.key_id), name, reserved.curve)
            self._record.append(KeyCreated(key_id=reserved.key_id, public_key=public_key))
        return self._view(reserved)

    def public_key(self, key_id: str) -> KeyView:
        """Return one key; raises Refusal("unknown_key")."""
        with self._lock:
            if key_id not in self._record.state.public_keys:
                raise Refusal("unknown_key", "there is no such key")
            return self._view(self._record.state.reserved[key_id])

    def list_keys(self, org: str) -> KeyList:
        """Return all keys of an organisation, oldest first."""
        with self._lock:
            state = self._record.state
            views = [self._view(key) for id_, key in state.reserved.items() if id_ in state.public_keys]
            return KeyList(keys=tuple(view for view in views if view.org == org))

    def health(self) -> HealthView:
        """Return the counts; raises Refusal when the record is not sound."""
        with self._lock:
            self._record.check_sound()
            adopt_due(self._record)
            return HealthView(
                policy_version=self._record.policy.version,
                journal_count=self._record.count,
                keys=len(self._record.state.public_keys),
            )

    def _admit(self, intent: Intent, digest: bytes, approvals: tuple[Approval, ...]) -> Tally:
        """Check all that does not depend on the rules; return the verified votes."""
        adopt_due(self._record)
        policy, state = self._record.policy, self._record.state
        key = state.reserved.get(intent.key_id)
        public_key = state.public_keys.get(intent.key_id)
        if key is None or public_key is None or (key.org, key.vault) != (intent.org, intent.vault):
            raise Refusal("unknown_key", "the key is not one of this org and vault")
        if key.vault == CHECKPOINTS:
            raise Refusal("key_purpose", "a checkpoint key signs no transaction, whatever the policy says")
        if key.curve != curve_of(intent) or address_of(key.curve, public_key) != intent.source:
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
        # Here for its refusals, so that `explain` tells of them too; what it finds is looked up again when it is used.
        resolve(state, intent)
        return tally(policy, approvals, digest=digest, initiator=intent.initiator)

    def _rule(self, intent: Intent, digest: bytes, votes: Tally) -> Ruling:
        return judge(self._record, effect_of(intent), digest, votes.approved)

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
        slot = slot_of(intent, binding, found.slot_key)
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
            signature = self._keys.sign(bytes.fromhex(key_id), curve_of(intent), message)
            signatures[self._record.state.public_keys[key_id]] = signature
        return finish(intent, unsigned, signatures, self._record.policy.networks)

    def _reserve_key(self, request: CreateKey, warrant: Warrant) -> KeyReserved:
        existing = self._record.state.key_requests.get(request.request_id)
        asked = (request.org, request.vault, request.curve, request.label)
        if existing is not None:
            if (existing.org, existing.vault, existing.curve, existing.label) != asked:
                raise Refusal("key_exists_different", "this request_id made another key")
            return existing
        reserved = KeyReserved(
            request_id=request.request_id,
            key_id=secrets.token_hex(16),
            org=request.org,
            vault=request.vault,
            curve=request.curve,
            label=request.label,
            rule=warrant.rule,
            state=warrant.state,
            intent=warrant.intent,
            approvals=warrant.approvals,
        )
        self._record.append(reserved)
        return reserved

    def _view(self, key: KeyReserved) -> KeyView:
        public_key = self._record.state.public_keys[key.key_id]
        return KeyView(
            key_id=key.key_id,
            org=key.org,
            vault=key.vault,
            curve=key.curve,
            label=key.label,
            public_key=public_key.hex(),
            address=address_of(key.curve, public_key),
            state=self._record.state.standing[key.key_id][0],
        )


def _read_intent(data: bytes) -> tuple[Intent, bytes]:
    try:
        return canonical.decode(data), canonical.digest(data)
    except canonical.MalformedIntent as error:
        raise Refusal("malformed_intent", str(error)) from error
