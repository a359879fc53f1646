"""Decides again everything that a journal says was decided: the same code, on the state before each fact, at the fact's second.

A fact stands only if deciding again writes that very fact: the same rule, approvals that verify under the policy then in
force, the same bytes to sign, the same slot. What no decision writes (a birth, a signature) is checked for what it claims. The
first fact that does not stand ends the audit. What cannot be seen here: requests that were refused, since they change nothing
and are not journaled (they are in the signer's log); and an end that is missing, which only the anchor shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from signer.admission import reserve
from signer.audit.past import NoKeys, Past
from signer.audit.signatures import check_signed
from signer.batches import take_batch
from signer.build.address import address_of
from signer.cases import Case
from signer.checkpoints import check_first_key, sign_checkpoint
from signer.decide import Decider
from signer.facts import (
    BatchTaken,
    BatchVetoed,
    Bound,
    CheckpointSigned,
    Fact,
    IntentVetoed,
    IntentVoided,
    KeyAttested,
    KeyCreated,
    KeyReserved,
    KeyStateChanged,
    PolicyAccepted,
    PolicyAdopted,
    QuorumCompleted,
    SigningResumed,
    SigningStopped,
    TransactionSigned,
    WrappedKeyCreated,
    load_fact,
)
from signer.governance import adopt_due, change_policy, read_governance
from signer.journal import Entry
from signer.key_orders import (
    FIRST_STATEMENT_KEY,
    Warrant,
    as_request,
    change_state,
    warrant_by_people,
    warrant_by_rule,
)
from signer.policy.document import parse_policy
from signer.protocol.attestation import STATEMENT_VAULTS
from signer.protocol.batch import ApproveBatch
from signer.protocol.canonical import MalformedIntent
from signer.protocol.governance import KeyCreate, KeyStateChange, is_governance
from signer.protocol.messages import (
    ChangeKey,
    ChangePolicy,
    CreateKey,
    NoBinding,
    Sign,
    SignCheckpoint,
    Veto,
)
from signer.protocol.stops import Resume, Stop
from signer.protocol.voids import Void
from signer.protocol.wire import MalformedMessage
from signer.refusal import EvidenceFault, HsmFault, Refusal, StartupFault
from signer.stops import order_stop, resume

_BLOB_BYTES, _FINGERPRINT_BYTES = 72, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One fact that stands."""

    entry: int
    """Number of its journal entry."""
    at: int
    """Unix second."""
    fact: Fact


class Replay:
    """An audit under way. `policy_hash` and `last` say where it is, after what was checked so far."""

    def __init__(self) -> None:
        self._past = Past()
        self._decider = Decider(self._past, NoKeys())
        self.last: Entry | None = None

    @property
    def policy_hash(self) -> bytes:
        """SHA-256 of the document in force."""
        return self._past.state.policies[-1].hash

    def check(self, entry: Entry) -> Iterator[Checked]:
        """Return the facts of the next entry, each as it stands; raises EvidenceFault with the first that does not."""
        for place, (at, body) in enumerate(entry.facts, start=1):
            fact = self._stand(entry, place, at, body)
            yield Checked(entry=entry.n, at=at, fact=fact)
        self.last = entry

    def _stand(self, entry: Entry, place: int, at: int, body: bytes) -> Fact:
        where = f"journal entry {entry.n}, fact {place}"
        try:
            fact = load_fact(body)
        except MalformedMessage as error:
            raise EvidenceFault(f"{where}: it is no known fact") from error
        where = f"{where} ({type(fact).__name__})"
        if at < self._past.moment:
            raise EvidenceFault(f"{where}: it is dated before the fact that it follows")
        self._past.moment = at
        try:
            self._check(fact)
        except Refusal as refusal:
            raise EvidenceFault(f"{where}: it would be refused: {refusal.code}, {refusal.text}") from refusal
        except (EvidenceFault, HsmFault, StartupFault, MalformedIntent, ValueError, KeyError) as fault:
            # A forged fact may name what never was, in bytes that are nothing.
            raise EvidenceFault(f"{where}: {fault}") from fault
        self._past.state.learn(at, fact)
        return fact

    def _check(self, fact: Fact) -> None:
        if not self._past.state.policies and not isinstance(fact, PolicyAdopted):
            raise EvidenceFault("there is no policy yet")
        match fact:
            case PolicyAdopted():
                self._check_adopted(fact)
            case TransactionSigned():
                check_signed(self._past.state, fact)
            case KeyReserved() | WrappedKeyCreated():
                self._check_new_key(fact)
            case KeyAttested() | KeyCreated():
                self._check_born(fact)
            case _:
                self._decide_again(fact)

    def _decide_again(
        self,
        fact: PolicyAdopted
        | PolicyAccepted
        | KeyStateChanged
        | QuorumCompleted
        | Bound
        | IntentVetoed
        | IntentVoided
        | BatchTaken
        | BatchVetoed
        | CheckpointSigned
        | SigningStopped
        | SigningResumed,
    ) -> None:
        """Raise EvidenceFault, or the Refusal that it would be, unless deciding again writes this fact and no other first."""
        decided = self._past.decided
        decided.clear()
        refused = None
        try:
            self._decide(fact)
        except Refusal as refusal:
            # That a cool-down begins is written, and then refused for now; a rejection likewise.
            refused = refusal
        if decided[:1] == [fact]:
            return
        if decided:
            raise EvidenceFault(
                f"the decision then was another: {type(decided[0]).__name__} {_difference(decided[0], fact)}"
            )
        raise refused or EvidenceFault("nothing was to be decided")

    def _decide(
        self,
        fact: PolicyAdopted
        | PolicyAccepted
        | KeyStateChanged
        | QuorumCompleted
        | Bound
        | IntentVetoed
        | IntentVoided
        | BatchTaken
        | BatchVetoed
        | CheckpointSigned
        | SigningStopped
        | SigningResumed,
    ) -> None:
        past = self._past
        match fact:
            case PolicyAdopted():
                adopt_due(past)
            case PolicyAccepted():
                change_policy(
                    past,
                    ChangePolicy(intent=fact.intent, document=fact.document, approvals=fact.approvals),
                )
            case Bound():
                self._decider.allow(
                    Case(Sign(intent=fact.intent, approvals=fact.approvals, binding=fact.binding))
                )
            case QuorumCompleted() if not is_governance(fact.intent):
                # Whatever it was to be bound to: the wait comes before.
                self._decider.allow(
                    Case(Sign(intent=fact.intent, approvals=fact.approvals, binding=NoBinding()))
                )
            case QuorumCompleted() | KeyStateChanged():
                self._order_key(ChangeKey(intent=fact.intent, approvals=fact.approvals))
            case IntentVetoed():
                self._decider.veto(Veto(intent=fact.intent, approvals=(fact.approval,)))
            case IntentVoided() | BatchTaken() | BatchVetoed() | SigningStopped() | SigningResumed():
                self._decide_order(fact)
            case CheckpointSigned():
                sign_checkpoint(
                    past,
                    lambda _key_id, _curve, _message: fact.signature,
                    SignCheckpoint(key_id=fact.key_id, org=fact.org, sequence=fact.sequence, hash=fact.hash),
                )

    def _decide_order(
        self, fact: IntentVoided | BatchTaken | BatchVetoed | SigningStopped | SigningResumed
    ) -> None:
        past = self._past
        match fact:
            case IntentVoided():
                self._decider.void(Void(intent=fact.intent))
            case BatchTaken():
                take_batch(past, ApproveBatch(batch=fact.batch, lines=fact.lines, approvals=fact.approvals))
            case BatchVetoed():
                take_batch(past, ApproveBatch(batch=fact.batch, lines=fact.lines, approvals=(fact.approval,)))
            case SigningStopped():
                order_stop(past, Stop(order=fact.order, approval=fact.approval))
            case SigningResumed():
                resume(past, Resume(intent=fact.intent, approvals=fact.approvals))

    def _order_key(self, request: ChangeKey) -> None:
        intent, digest = read_governance(request.intent)
        if isinstance(intent, KeyCreate):
            warrant_by_people(self._past, intent, digest, request)
        elif isinstance(intent, KeyStateChange):
            change_state(self._past, intent, digest, request)

    def _check_adopted(self, fact: PolicyAdopted) -> None:
        if self._past.state.policies:
            self._decide_again(fact)
            return
        policy = parse_policy(fact.document)
        if (policy.version, policy.hash, b"") != (fact.version, fact.hash, fact.change):
            raise EvidenceFault("the document is not the one that it is said to be")

    def _check_new_key(self, fact: KeyReserved | WrappedKeyCreated) -> None:
        """A rule let it be made, without people or with those who approved; nothing has its names yet."""
        state = self._past.state
        if fact.key_id in state.reserved or fact.request_id in state.key_requests:
            raise EvidenceFault("its key id or its request made a key before")
        curve = fact.curve if isinstance(fact, KeyReserved) else "secp256k1"
        request = CreateKey(
            request_id=fact.request_id, org=fact.org, vault=fact.vault, curve=curve, label=fact.label
        )
        expected = reserve(request, fact.key_id, self._warrant(fact, request))
        if (expected.rule, expected.state) != (fact.rule, fact.state):
            raise EvidenceFault(f"the rule that let it be made was {expected.rule}, into {expected.state}")
        if isinstance(fact, WrappedKeyCreated):
            address_of(curve, fact.public_key)
            if (len(fact.blob), len(fact.wrapping_key)) != (_BLOB_BYTES, _FINGERPRINT_BYTES):
                raise EvidenceFault("it holds no wrapped key")

    def _warrant(self, fact: KeyReserved | WrappedKeyCreated, request: CreateKey) -> Warrant:
        past = self._past
        past.decided.clear()
        if fact.intent:
            intent, digest = read_governance(fact.intent)
            if not isinstance(intent, KeyCreate) or as_request(intent) != request:
                raise EvidenceFault("the key is not the one that people approved")
            asked = ChangeKey(intent=fact.intent, approvals=fact.approvals)
            warrant = warrant_by_people(past, intent, digest, asked)
        elif not fact.rule and fact.vault in STATEMENT_VAULTS:
            check_first_key(past.state, request)
            warrant = FIRST_STATEMENT_KEY
        else:
            warrant = warrant_by_rule(past, request)
        if past.decided or warrant.approvals != fact.approvals:
            raise EvidenceFault("a due policy was not in force yet, or the approvals are others")
        return warrant

    def _check_born(self, fact: KeyAttested | KeyCreated) -> None:
        state = self._past.state
        if fact.key_id not in state.reserved or fact.key_id in state.public_keys:
            raise EvidenceFault("no rule let this key be made, or it exists already")
        if isinstance(fact, KeyCreated):
            address_of(state.reserved[fact.key_id].curve, fact.public_key)
        elif fact.origin not in ("born", "ceremony"):
            raise EvidenceFault("a key is born inside or comes from a ceremony")


def _difference(decided: Fact, fact: Fact) -> str:
    """Return the names of the fields in which two facts differ."""
    if type(decided) is not type(fact):
        return "was due first"
    names = [name for name in fact.__dataclass_fields__ if getattr(decided, name) != getattr(fact, name)]
    return f"with another {', '.join(names)}"
