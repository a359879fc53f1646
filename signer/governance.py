"""Changes of the policy, approvers and addresses included: only by the quorum of the policy in force, after its cool-down, and
never backwards.

A change is accepted (journaled, with the whole document), waits for a veto, and is adopted by the first decision after its time.
The caller holds the signer's lock around everything here.
"""

import hashlib

from signer.facts import IntentVetoed, PolicyAccepted, PolicyAdopted
from signer.policy.document import Policy, parse_policy
from signer.policy.groups import Count, seat
from signer.policy.ruling import Ruling, denied
from signer.policy.view import view_policy
from signer.protocol import governance
from signer.protocol.approvals import GOVERNANCE_TAG, Approval
from signer.protocol.canonical import MalformedIntent
from signer.protocol.governance import Governance, PolicyChange, SigningResume
from signer.protocol.messages import (
    ChangePolicy,
    Veto,
    Vetoed,
)
from signer.protocol.policy_messages import (
    PendingPolicyView,
    PolicyChanged,
    PolicyDocument,
    PolicyView,
)
from signer.quorum import Tally, tally
from signer.record import Record
from signer.refusal import Refusal, StartupFault
from signer.verdicts import stop_at_veto


def read_governance(data: bytes) -> tuple[Governance, bytes]:
    """Return the governance intent of these bytes and its digest; raises Refusal("malformed_intent")."""
    try:
        return governance.decode(data), governance.digest(data)
    except MalformedIntent as error:
        raise Refusal("malformed_intent", str(error)) from error


def adopt_due(record: Record) -> None:
    """Put the accepted change in force once its cool-down has passed. Comes before every decision."""
    pending = record.state.pending
    if pending is not None and record.now() >= pending.effective_at:
        # Also on the way to an answer that changes nothing else: the fact must not cover up another hand's anchor.
        record.check_sound()
        record.append(
            PolicyAdopted(
                version=pending.version,
                hash=hashlib.sha256(pending.document).digest(),
                document=pending.document,
                change=pending.digest,
            )
        )


def admit_governance(
    record: Record, intent: Governance, digest: bytes, approvals: tuple[Approval, ...]
) -> Tally:
    """Check what does not depend on rules; return the verified votes. Raises Refusal."""
    adopt_due(record)
    policy, now = record.policy, record.now()
    if intent.policy_version != policy.version:
        raise Refusal("wrong_policy_version", f"policy version {policy.version} is in force")
    if now < intent.not_before:
        raise Refusal("not_yet", "the intent is not valid yet")
    if now >= intent.expires_at:
        raise Refusal("expired", "the intent is no longer valid")
    if digest in record.state.vetoed:
        raise Refusal("vetoed", "an approver rejected it")
    return _tally(record, intent, digest, approvals)


def change_policy(record: Record, request: ChangePolicy) -> PolicyChanged:
    """Accept a change that the quorum in force approves. Idempotent by the intent. Raises Refusal."""
    intent, digest = read_governance(request.intent)
    if not isinstance(intent, PolicyChange):
        raise Refusal("bad_request", "only a policy_change changes the policy")
    if hashlib.sha256(request.document).hexdigest() != intent.policy_hash:
        raise Refusal("bad_policy", "the document is not the one that the intent names")
    adopt_due(record)
    known = _known(record, digest)
    if known is not None:
        return known
    votes = admit_governance(record, intent, digest, request.approvals)
    stop_at_veto(record, request.intent, digest, votes)
    if record.state.pending is not None:
        raise Refusal("policy_pending", "another change waits for its cool-down; veto it or wait")
    policy = record.policy
    _check_document(policy, intent, request.document)
    demand_quorum(policy, votes)
    accepted = PolicyAccepted(
        digest=digest,
        intent=request.intent,
        approvals=request.approvals,
        version=intent.version,
        document=request.document,
        effective_at=record.now() + policy.governance.cool_down_s,
    )
    record.append(accepted)
    adopt_due(record)
    return _view(accepted)


def demand_quorum(policy: Policy, votes: Tally) -> None:
    """Raise Refusal("quorum_missing") unless the governance section has everybody that it asks for."""
    missing = [f"{one.missing} more of group {one.group}" for one in _counts(policy, votes) if one.missing]
    if missing:
        raise Refusal("quorum_missing", f"governance needs {' and '.join(missing)}")


def rule_on_resume(record: Record, intent: SigningResume, votes: Tally) -> Ruling:
    """Return how the governance section stands towards the end of a stop, which waits for no cool-down."""
    standing = record.state.stops.get(bytes.fromhex(intent.stop))
    if standing is None or standing[1].place[0] != intent.org:
        return denied("unknown_stop", "governance")
    counts = _counts(record.policy, votes)
    missing = any(count.missing for count in counts)
    return Ruling(
        verdict="wait" if missing else "allow",
        code="quorum_missing" if missing else "ok",
        rule="governance",
        counts=counts,
    )


def rule_on_change(record: Record, digest: bytes, votes: Tally) -> Ruling:
    """Return how the governance section stands towards a change of the policy."""
    policy, pending = record.policy, record.state.pending
    counts, cool_down_s = _counts(policy, votes), policy.governance.cool_down_s
    if pending is not None and pending.digest != digest:
        return denied("policy_pending", "governance")
    missing = any(count.missing for count in counts)
    code = "quorum_missing" if missing else "ok"
    return Ruling(
        verdict="wait" if pending or missing else "allow",
        code="cooling_down" if pending else code,
        rule="governance",
        counts=counts,
        cool_down_s=cool_down_s,
        ready_at=pending.effective_at if pending else 0,
    )


def veto_governance(record: Record, request: Veto) -> Vetoed:
    """Make a rejection final; a policy that waits never comes into force. Idempotent. Raises Refusal."""
    intent, digest = read_governance(request.intent)
    adopt_due(record)
    state = record.state
    if digest not in state.vetoed:
        votes = _tally(record, intent, digest, request.approvals)
        if not votes.rejected:
            raise Refusal("no_veto", "no valid rejection was given")
        created = any(key.intent == request.intent for key in state.reserved.values())
        adopted = any(policy.change == digest for policy in state.policies)
        if created or adopted or digest in state.key_changes or digest in state.resumes:
            raise Refusal("already_done", "the intent is carried out already")
        record.append(IntentVetoed(digest=digest, intent=request.intent, approval=votes.rejected[0]))
    return Vetoed(intent_digest=digest.hex())


def show_policy(record: Record) -> PolicyView:
    """Return the policy in force and the change that waits."""
    adopt_due(record)
    pending = record.state.pending
    if pending is None:
        return view_policy(record.policy, ())
    waiting = PendingPolicyView(
        version=pending.version,
        policy_hash=hashlib.sha256(pending.document).hexdigest(),
        intent=pending.intent,
        effective_at=pending.effective_at,
    )
    return view_policy(record.policy, (waiting,))


def policy_document(record: Record, version: int) -> PolicyDocument:
    """Return the bytes of a policy that is, was, or waits to be in force; raises Refusal("unknown_policy")."""
    waiting = (record.state.pending,) if record.state.pending is not None else ()
    for each in (*record.state.policies, *waiting):
        if each.version == version:
            return PolicyDocument(version=version, document=each.document)
    raise Refusal("unknown_policy", "there is no such version of the policy")


def _tally(record: Record, intent: Governance, digest: bytes, approvals: tuple[Approval, ...]) -> Tally:
    return tally(
        record.policy,
        approvals,
        digest=digest,
        initiator=intent.initiator,
        not_before=intent.not_before,
        counters=record.state.counters,
        tag=GOVERNANCE_TAG,
    )


def _known(record: Record, digest: bytes) -> PolicyChanged | None:
    """Return the answer to a change that was accepted before."""
    accepted = record.state.accepted.get(digest)
    if accepted is None or digest in record.state.vetoed:
        return None
    return _view(accepted)


def _view(accepted: PolicyAccepted) -> PolicyChanged:
    return PolicyChanged(
        intent_digest=accepted.digest.hex(), version=accepted.version, effective_at=accepted.effective_at
    )


def _counts(policy: Policy, votes: Tally) -> tuple[Count, ...]:
    people = {name: policy.approvers[name].groups for name in votes.approved}
    return seat(policy.governance.approvals, people)


def _check_document(current: Policy, intent: PolicyChange, document: bytes) -> None:
    """Raise Refusal("bad_policy") unless this is the approved document and may follow the one in force."""
    try:
        new = parse_policy(document)
    except StartupFault as fault:
        raise Refusal("bad_policy", str(fault)) from fault
    if new.version != intent.version:
        raise Refusal("bad_policy", "the document has another version than the intent names")
    changed = new.approvers != current.approvers
    if new.approver_set_version != current.approver_set_version + changed:
        raise Refusal(
            "bad_policy", "approver_set_version rises by one when the approvers change, and only then"
        )
