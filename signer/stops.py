"""Stops: any one approver ends signing somewhere at once; only the quorum that may change the policy lets it begin again.

What stands is asked at two moments of every signature: before the rules are, and again when the bytes are made, so that no
signature is journaled, and none leaves, after an order that covers it. Keys that sign no transaction (checkpoints, attestations)
are not stopped: they move nothing, and tell outsiders what is true meanwhile. The caller holds the signer's lock.
"""

from collections.abc import Iterator

from signer.build.address import checksummed
from signer.effects import asset_of
from signer.facts import SigningResumed, SigningStopped
from signer.governance import admit_governance, adopt_due, demand_quorum, read_governance
from signer.protocol import stops
from signer.protocol.approvals import STOP_TAG
from signer.protocol.canonical import MalformedIntent
from signer.protocol.governance import SigningResume
from signer.protocol.intent import Intent, StellarPathReceive, StellarPathSend
from signer.protocol.stops import (
    LIST_MAX,
    ListStops,
    Resume,
    Resumed,
    Stop,
    StopList,
    StopOrder,
    Stopped,
    StopView,
)
from signer.quorum import tally
from signer.record import Record
from signer.refusal import Refusal
from signer.state import Place, State
from signer.verdicts import stop_at_veto


def read_order(data: bytes) -> tuple[StopOrder, bytes]:
    """Return the order of these bytes and its digest; raises Refusal("malformed_intent")."""
    try:
        return stops.decode(data), stops.digest(data)
    except MalformedIntent as error:
        raise Refusal("malformed_intent", str(error)) from error


def refuse_stopped(state: State, intent: Intent, slot_key: str) -> None:
    """Raise Refusal("stopped") while an order covers the intent, or the key that lends its sequence number."""
    if not state.stopped:
        return
    for place in _places_of(state, intent, slot_key):
        if place in state.stopped:
            raise Refusal("stopped", f"an approver has stopped {' '.join(filter(None, place[1:]))}")


def order_stop(record: Record, request: Stop) -> Stopped:
    """Let an order count from now on. Idempotent by the order, also after it has ended. Raises Refusal."""
    order, digest = read_order(request.order)
    answer, state = Stopped(order_digest=digest.hex()), record.state
    if digest in state.stops or digest in state.ended_stops:
        return answer
    adopt_due(record)
    now = record.now()
    if now < order.not_before:
        raise Refusal("not_yet", "the order is not valid yet")
    if now >= order.expires_at:
        raise Refusal("expired", "the order is no longer valid")
    _check_place(record, order)
    if request.approval.decision != "approve":
        raise Refusal("bad_decision", "an order to stop is approved, and ended by a signing_resume")
    # Nobody is its initiator: whoever sees the need may order it alone.
    tally(
        record.policy,
        (request.approval,),
        digest=digest,
        initiator="",
        not_before=order.not_before,
        counters=state.counters,
        tag=STOP_TAG,
    )
    record.append(
        SigningStopped(digest=digest, order=request.order, approval=request.approval, place=place_of(order))
    )
    return answer


def resume(record: Record, request: Resume) -> Resumed:
    """End a stop, by the quorum in force. Idempotent by the intent. Raises Refusal."""
    intent, digest = read_governance(request.intent)
    if not isinstance(intent, SigningResume):
        raise Refusal("bad_request", "only a signing_resume ends a stop")
    if digest in record.state.resumes:
        return Resumed(order_digest=intent.stop)
    votes = admit_governance(record, intent, digest, request.approvals)
    stop_at_veto(record, request.intent, digest, votes)
    standing = record.state.stops.get(bytes.fromhex(intent.stop))
    if standing is None or standing[1].place[0] != intent.org:
        raise Refusal("unknown_stop", "no such stop stands in this org")
    demand_quorum(record.policy, votes)
    record.append(
        SigningResumed(
            digest=digest, intent=request.intent, approvals=request.approvals, stop=standing[1].digest
        )
    )
    return Resumed(order_digest=intent.stop)


def list_stops(record: Record, request: ListStops) -> StopList:
    """Return what stands in an org, the newest first."""
    standing = [(at, fact) for at, fact in record.state.stops.values() if fact.place[0] == request.org]
    return StopList(
        stops=tuple(_view(at, fact) for at, fact in reversed(standing[-LIST_MAX:])), total=len(standing)
    )


def place_of(order: StopOrder) -> Place:
    """Return where the order stops, as what is to be signed is looked up: (org, scope, chain, subject)."""
    return (order.org, order.scope, order.chain, order.subject)


def _places_of(state: State, intent: Intent, slot_key: str) -> Iterator[Place]:
    org = intent.org
    yield (org, "all", "", "")
    yield (org, "chain", intent.chain, "")
    yield (org, "asset", intent.chain, asset_of(intent))
    if isinstance(intent, StellarPathSend | StellarPathReceive):
        yield (org, "asset", intent.chain, intent.dest_asset)
    for key_id in {intent.key_id, slot_key} & state.reserved.keys():
        yield (org, "key", "", key_id)
        yield (org, "vault", "", state.reserved[key_id].vault)


def _check_place(record: Record, order: StopOrder) -> None:
    """Raise Refusal for a place where there is nothing: an order with a slip in it would stop nothing and look as if it did."""
    state = record.state
    keys = [state.reserved[key_id] for key_id in state.keys_of.get(order.org, [])]
    if not keys or (order.scope == "vault" and all(key.vault != order.subject for key in keys)):
        raise Refusal("unknown_key", "the org has no key there")
    if order.scope == "key" and all(key.key_id != order.subject for key in keys):
        raise Refusal("unknown_key", "the org has no such key")
    if order.chain.startswith("stellar:") and order.chain not in record.policy.networks:
        raise Refusal("unknown_network", "the chain is not in the policy")
    token = bytes.fromhex(order.subject[2:]) if order.subject.startswith("0x") else b""
    if token and checksummed(token) != order.subject:
        raise Refusal("bad_checksum", "the token's address is mistyped")


def _view(at: int, fact: SigningStopped) -> StopView:
    order = stops.decode(fact.order)
    return StopView(
        order_digest=fact.digest.hex(),
        scope=order.scope,
        chain=order.chain,
        subject=order.subject,
        reason=order.reason,
        approver=fact.approval.approver,
        since=at,
    )
