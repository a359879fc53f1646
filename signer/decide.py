"""What the signer does with a request. Read it aloud: every way to a transaction's signature goes through `Decider.sign`.

One lock makes decisions one after another, so that two requests can neither share a slot nor slip under a
limit together.
"""

import re
import secrets
import threading

from signer.admission import (
    BORN,
    CEREMONY,
    Keys,
    admit,
    check_storage,
    create_wrapped,
    export_page,
    list_page,
    view_key,
    wrapped_key,
)
from signer.build import stellar
from signer.build.address import address_of, check_addresses, curve_of
from signer.build.assembly import build_unsigned, finish, message_of
from signer.checkpoints import check_first_key, sign_checkpoint
from signer.effects import asset_of, moved_by
from signer.facts import Bound, IntentVetoed, KeyAttested, KeyCreated, KeyReserved, TransactionSigned
from signer.policy.ruling import Ruling, denied, rule_on
from signer.protocol import canonical
from signer.protocol.approvals import Approval
from signer.protocol.checkpoint import VAULT as CHECKPOINTS
from signer.protocol.intent import Intent, StellarIntent
from signer.protocol.key_backup import AdmitKey, ExportKeys, WrappedKeyList
from signer.protocol.messages import (
    CURVES,
    Binding,
    CreateKey,
    Explain,
    Explained,
    HealthView,
    KeyList,
    KeyView,
    ListKeys,
    Sign,
    SignCheckpoint,
    Signed,
    SignedCheckpoint,
    Veto,
    Vetoed,
)
from signer.quorum import Tally, tally
from signer.record import Record
from signer.references import References, resolve
from signer.refusal import Refusal
from signer.slots import check_slot, slot_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")
_KEY_ID = re.compile(r"[0-9a-f]{32}")


class Decider:
    """All decisions of one signer. Safe for concurrent use."""

    def __init__(self, record: Record, keys: Keys, ceremony: frozenset[bytes] = frozenset()) -> None:
        """`ceremony`: keys that need not be born inside, by public key or, for a wrapping key, by fingerprint."""
        self._record = record
        self._keys = keys
        self._ceremony = ceremony
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
            self._stop_at_veto(request.intent, digest, votes)
            ruling = self._rule(intent, digest, votes)
            if ruling.verdict != "allow":
                raise Refusal(ruling.code, _sentence(ruling))
            found = resolve(self._record.state, intent)
            unsigned = build_unsigned(
                intent, request.binding, found.earlier, self._record.policy.networks, self._record.now()
            )
            self._bind(request, intent, digest, unsigned, ruling, found)
            tx, tx_hash = self._sign_bytes(intent, unsigned, found)
            self._record.append(TransactionSigned(digest=digest, tx=tx, tx_hash=tx_hash))
            return Signed(tx=tx, tx_hash=tx_hash, intent_digest=digest.hex())

    def veto(self, request: Veto) -> Vetoed:
        """Make a rejection final. Idempotent. Raises Refusal, also when the intent is signed already."""
        intent, digest = _read_intent(request.intent)
        with self._lock:
            self._record.check_sound()
            if digest in self._record.state.vetoed:
                return Vetoed(intent_digest=digest.hex())
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
        intent, digest = _read_intent(request.intent)
        with self._lock:
            try:
                votes = self._admit(intent, digest, request.approvals)
                ruling = denied("vetoed", "") if votes.rejected else self._rule(intent, digest, votes)
            except Refusal as refusal:
                ruling = denied(refusal.code, "")
        return Explained(
            verdict=ruling.verdict,
            code=ruling.code,
            rule=ruling.rule,
            group=ruling.group,
            threshold=ruling.threshold,
            counted=ruling.counted,
            missing=ruling.missing,
            intent_digest=digest.hex(),
        )

    def create_key(self, request: CreateKey) -> KeyView:
        """Generate a key pair in the HSM. Idempotent by `request_id`; its id is journaled before it exists."""
        self._check_key_request(request)
        with self._lock:
            self._record.check_sound()
            return self._create_key(request)

    def create_first_checkpoint_key(self, request: CreateKey) -> KeyView:
        """The same on behalf of a requester, who gets one checkpoint key for an org that has a key, and no more."""
        self._check_key_request(request)
        with self._lock:
            self._record.check_sound()
            check_first_key(self._record.state, request)
            return self._create_key(request)

    def admit_key(self, request: AdmitKey) -> KeyView:
        """Take a key into use that a ceremony or a backup brings. Idempotent by `request_id`. Raises Refusal or HsmFault."""
        self._check_key_request(request)
        if not _KEY_ID.fullmatch(request.key_id):
            raise Refusal("bad_request", "key_id is 32 hex characters")
        with self._lock:
            self._record.check_sound()
            return view_key(self._record.state, admit(self._record, self._keys, self._ceremony, request))

    def export_keys(self, request: ExportKeys) -> WrappedKeyList:
        """Return the wrapped bytes of one page of keys, for a backup."""
        with self._lock:
            return export_page(self._record.state, request)

    @staticmethod
    def _check_key_request(request: CreateKey | AdmitKey) -> None:
        for value in (request.request_id, request.org, request.vault, request.label):
            if not _NAME.fullmatch(value):
                raise Refusal(
                    "bad_request", "request_id, org, vault and label are names of at most 64 characters"
                )
        if request.curve not in CURVES:
            raise Refusal("bad_request", "the curve is ed25519 or secp256k1")
        if request.vault == CHECKPOINTS and request.curve != "ed25519":
            raise Refusal("bad_request", "a checkpoint key is an ed25519 key")

    def _create_key(self, request: CreateKey) -> KeyView:
        check_storage(request)
        if request.storage == "wrapped":
            return view_key(self._record.state, create_wrapped(self._record, self._keys, request))
        reserved = self._reserve_key(request)
        if reserved.key_id not in self._record.state.public_keys:
            name = f"{reserved.org}/{reserved.vault}/{reserved.curve}/{reserved.label}"
            made = self._keys.generate(bytes.fromhex(reserved.key_id), name, reserved.curve)
            self._record.append(
                KeyAttested(
                    key_id=reserved.key_id,
                    origin=BORN if made.born_inside else CEREMONY,
                    mechanism=made.mechanism,
                )
            )
            self._record.append(KeyCreated(key_id=reserved.key_id, public_key=made.public_key))
        return view_key(self._record.state, reserved.key_id)

    def public_key(self, key_id: str) -> KeyView:
        """Return one key; raises Refusal("unknown_key")."""
        with self._lock:
            if key_id not in self._record.state.public_keys:
                raise Refusal("unknown_key", "there is no such key")
            return view_key(self._record.state, key_id)

    def list_keys(self, request: ListKeys) -> KeyList:
        """Return one page of an organisation's keys, oldest first."""
        with self._lock:
            return list_page(self._record.state, request)

    def health(self) -> HealthView:
        """Return the counts; raises Refusal when the record is not sound."""
        with self._lock:
            self._record.check_sound()
            return HealthView(
                policy_version=self._record.policy.version,
                journal_count=self._record.count,
                keys=len(self._record.state.public_keys),
            )

    def _admit(self, intent: Intent, digest: bytes, approvals: tuple[Approval, ...]) -> Tally:
        """Check all that does not depend on the rules; return the verified votes."""
        policy, state = self._record.policy, self._record.state
        key = state.reserved.get(intent.key_id)
        public_key = state.public_keys.get(intent.key_id)
        if key is None or public_key is None or (key.org, key.vault) != (intent.org, intent.vault):
            raise Refusal("unknown_key", "the key is not one of this org and vault")
        if key.vault == CHECKPOINTS:
            raise Refusal("key_purpose", "a checkpoint key signs no transaction, whatever the policy says")
        if key.curve != curve_of(intent) or address_of(key.curve, public_key) != intent.source:
            raise Refusal("source_mismatch", "the source is not the key's address on this chain")
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

    def _stop_at_veto(self, data: bytes, digest: bytes, votes: Tally) -> None:
        if votes.rejected:
            self._record.append(IntentVetoed(digest=digest, intent=data, approval=votes.rejected[0]))
            raise Refusal("vetoed", "an approver rejected it")

    def _rule(self, intent: Intent, digest: bytes, votes: Tally) -> Ruling:
        now = self._record.now()
        account = (intent.org, intent.vault, intent.chain, asset_of(intent))
        # An intent that is bound already is part of what was spent and must not count twice.
        own = moved_by(intent) if digest in self._record.state.bound else 0

        def spent(seconds: int) -> int:
            return max(0, self._record.state.spent(account, now - seconds) - own)

        return rule_on(self._record.policy, intent, votes.approved, spent)

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
            signature = self._sign_message(key_id, curve_of(intent), message)
            signatures[self._record.state.public_keys[key_id]] = signature
        return finish(intent, unsigned, signatures, self._record.policy.networks)

    def _sign_message(self, key_id: str, curve: str, message: bytes) -> bytes:
        wrapped = self._record.state.wrapped.get(key_id)
        if wrapped is None:
            return self._keys.sign(bytes.fromhex(key_id), curve, message)
        return self._keys.sign_wrapped(wrapped_key(wrapped), message)

    def _reserve_key(self, request: CreateKey) -> KeyReserved:
        existing = self._record.state.key_requests.get(request.request_id)
        key_id = secrets.token_hex(16) if existing is None else existing.key_id
        asked = KeyReserved(
            request_id=request.request_id,
            key_id=key_id,
            org=request.org,
            vault=request.vault,
            curve=request.curve,
            label=request.label,
        )
        if existing is None:
            self._record.append(asked)
        elif existing != asked or key_id in self._record.state.wrapped:
            raise Refusal("key_exists_different", "this request_id made another key")
        return asked


def _read_intent(data: bytes) -> tuple[Intent, bytes]:
    try:
        return canonical.decode(data), canonical.digest(data)
    except canonical.MalformedIntent as error:
        raise Refusal("malformed_intent", str(error)) from error


def _sentence(ruling: Ruling) -> str:
    if ruling.code == "quorum_missing":
        return f"rule {ruling.rule} needs {ruling.missing} more of group {ruling.group}"
    return f"rule {ruling.rule} stops it" if ruling.rule else "no rule allows it"
