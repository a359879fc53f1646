"""What the signer would say now, for people: which rule decides, who is missing, until when it waits, and what comes nearest."""

from signer.governance import admit_governance, read_governance, rule_on_change, rule_on_resume
from signer.key_orders import effect_on_key
from signer.policy.ruling import Ruling, denied
from signer.protocol.governance import PolicyChange, SigningResume
from signer.protocol.messages import CountView, Explain, Explained
from signer.record import Record
from signer.refusal import Refusal
from signer.verdicts import judge


def explain_governance(record: Record, request: Explain) -> Explained:
    """Tell how a governance intent stands. The caller holds the signer's lock. Raises Refusal when it is none."""
    intent, digest = read_governance(request.intent)
    try:
        votes = admit_governance(record, intent, digest, request.approvals)
        if votes.rejected:
            ruling = denied("vetoed", "")
        elif isinstance(intent, PolicyChange):
            ruling = rule_on_change(record, digest, votes)
        elif isinstance(intent, SigningResume):
            ruling = rule_on_resume(record, intent, votes)
        else:
            ruling = judge(record, effect_on_key(record, intent), digest, votes.approved)
    except Refusal as refusal:
        ruling = denied(refusal.code, "")
    return view_ruling(ruling, digest)


def view_ruling(ruling: Ruling, digest: bytes) -> Explained:
    """Return the ruling as it goes over the wire."""
    return Explained(
        verdict=ruling.verdict,
        code=ruling.code,
        rule=ruling.rule,
        nearest=ruling.nearest,
        obstacles=ruling.obstacles,
        groups=tuple(
            CountView(group=one.group, threshold=one.threshold, counted=one.counted) for one in ruling.counts
        ),
        cool_down_s=ruling.cool_down_s,
        ready_at=ruling.ready_at,
        intent_digest=digest.hex(),
    )
