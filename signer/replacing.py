"""Who has to agree that a nonce is bid for again: nobody who has agreed to that price already.

A replacement has the effect of the first intent on its nonce, and one of the two is mined. So at a price that the first intent
allows it asks for nothing that was not approved then: the approvals of the first intent, given again with the request, stand for
it, and the rules now in force are asked about the first intent. Above that price it is an intent like any other.
"""

from signer.facts import Bound
from signer.lines import approved_with_batch, effect_of_line
from signer.policy.effect import effect_of
from signer.policy.ruling import Ruling
from signer.protocol import canonical
from signer.protocol.approvals import Approval
from signer.protocol.intent import EvmCall, EvmReplace
from signer.quorum import Tally, tally
from signer.record import Record
from signer.refusal import Refusal
from signer.verdicts import judge


def tally_replacement(
    record: Record, intent: EvmReplace, own: Refusal, approvals: tuple[Approval, ...]
) -> Tally:
    """Return the votes as votes about the first intent; raises `own`, why they are none about the replacement, otherwise."""
    first = _allows(record, intent)
    if first is None:
        raise own
    bound, replaced = first
    try:
        return tally(
            record.policy,
            approvals,
            digest=bound.digest,
            initiator=replaced.initiator,
            not_before=replaced.not_before,
            counters=record.state.counters,
        )
    except Refusal:
        raise own from None


def rule_replacement(record: Record, intent: EvmReplace, digest: bytes, votes: Tally) -> Ruling:
    """Return the ruling on a replacement; where it would not be allowed, that on the first intent if that one is.

    A rule that denies replacements, or this one, is not overruled.
    """
    own = judge(record, effect_of(intent), digest, votes.approved if votes.digest == digest else frozenset())
    first = None if own.verdict == "allow" or own.code == "denied_by_rule" else _allows(record, intent)
    if first is None:
        return own
    bound, replaced = first
    approved = approved_with_batch(record.state, record.policy, bound.digest)
    if votes.digest == bound.digest:
        approved = votes.approved
    ruling = judge(record, effect_of_line(record.state, replaced, bound.digest), bound.digest, approved)
    return ruling if ruling.verdict == "allow" else own


def _allows(record: Record, intent: EvmReplace) -> tuple[Bound, EvmCall] | None:
    """Return the first intent on the nonce where it allows every price that the replacement may pay; else None."""
    bound = record.state.bound.get(bytes.fromhex(intent.replaces))
    first = None if bound is None else canonical.decode(bound.intent)
    if bound is None or not isinstance(first, EvmCall):
        return None
    within = (
        intent.max_fee_per_gas <= first.max_fee_per_gas
        and intent.max_priority_fee_per_gas <= first.max_priority_fee_per_gas
        and intent.gas_limit <= first.gas_limit
    )
    return (bound, first) if within else None
