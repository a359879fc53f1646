"""Intents that are never to be signed, because whoever asked for them has given the money back.

A void needs nobody's approval: it can only keep something from happening, as its requester could by never asking. It is
journaled, so that real approvals presented later, by whomever, find it. The caller holds the signer's lock.
"""

from heapq import heappop

from signer.facts import IntentVoided
from signer.governance import adopt_due
from signer.protocol.intent import Intent
from signer.protocol.voids import Void, Voided
from signer.record import Record
from signer.refusal import Refusal

STANDING_MAX = 10_000
"""Most voids of intents that have not expired, per org: a requester cannot fill the journal with them."""


def void_intent(record: Record, request: Void, intent: Intent, digest: bytes) -> Voided:
    """Make sure that the intent is never signed. Idempotent. Raises Refusal, when it is signed or may be at any moment."""
    state, answer = record.state, Voided(intent_digest=digest.hex())
    if digest in state.signed or digest in state.under_way:
        raise Refusal("already_signed", "the intent's transaction is signed already")
    adopt_due(record)
    now, version = record.now(), record.policy.version
    dead = intent.policy_version < version or now >= intent.expires_at
    if dead or digest in state.vetoed or digest in state.voided:
        return answer
    key = state.reserved.get(intent.key_id)
    if key is None or (key.org, key.vault) != (intent.org, intent.vault):
        raise Refusal("unknown_key", "the key is not one of this org and vault")
    standing = state.void_ends.get(intent.org, [])
    while standing and standing[0] <= now:
        heappop(standing)
    if len(standing) >= STANDING_MAX:
        raise Refusal("too_many_voids", "too many voided intents of the org have not expired yet")
    record.append(IntentVoided(digest=digest, intent=request.intent))
    return answer
