"""What an audit shows of each decision: what was decided about what, by which rule, by whom, when, and what came of it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from signer.audit.replay import Checked
from signer.facts import (
    BatchTaken,
    BatchVetoed,
    Bound,
    CheckpointSigned,
    Fact,
    IntentVetoed,
    IntentVoided,
    KeyReserved,
    KeyStateChanged,
    PolicyAccepted,
    PolicyAdopted,
    QuorumCompleted,
    SigningResumed,
    SigningStopped,
    TransactionSigned,
    WrappedKeyCreated,
)
from signer.protocol import canonical
from signer.protocol.approvals import Approval


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One decision."""

    entry: int
    at: int
    """Unix second."""
    what: str
    subject: str
    """Digest of the intent, id of the key or hash of the document, in hex."""
    rule: str
    """"" where no rule is asked."""
    people: tuple[str, ...]
    """Whose approvals, or rejection, it rests on."""
    tx_hash: str
    """"" unless a transaction was signed."""


def rows_of(checked: Iterable[Checked]) -> list[Row]:
    """Return the decisions in their order; what they led to stands with them."""
    rows: list[Row] = []
    bound: dict[bytes, int] = {}
    for each in checked:
        fact = each.fact
        if isinstance(fact, TransactionSigned):
            place = bound[fact.digest]
            rows[place] = replace(rows[place], tx_hash=fact.tx_hash)
            continue
        if isinstance(fact, Bound):
            bound[fact.digest] = len(rows)
        described = _describe(fact)
        if described is not None:
            what, subject, rule, approvals = described
            people = tuple(approval.approver for approval in approvals)
            rows.append(
                Row(
                    entry=each.entry,
                    at=each.at,
                    what=what,
                    subject=subject,
                    rule=rule,
                    people=people,
                    tx_hash="",
                )
            )
    return rows


def _describe(fact: Fact) -> tuple[str, str, str, tuple[Approval, ...]] | None:
    """Return what was decided, about what, by which rule and with which approvals; None for a fact that decides nothing."""
    described: tuple[str, str, str, tuple[Approval, ...]] | None = None
    match fact:
        case Bound():
            kind = canonical.kind_of(canonical.decode(fact.intent))
            described = kind, fact.digest.hex(), fact.rule, fact.approvals
        case QuorumCompleted():
            described = "quorum complete", fact.digest.hex(), fact.rule, fact.approvals
        case IntentVetoed():
            described = "rejected", fact.digest.hex(), "", (fact.approval,)
        case IntentVoided():
            described = "given up", fact.digest.hex(), "", ()
        case PolicyAccepted():
            described = f"policy {fact.version} accepted", fact.digest.hex(), "governance", fact.approvals
        case PolicyAdopted():
            described = f"policy {fact.version} in force", fact.hash.hex(), "", ()
        case KeyReserved() | WrappedKeyCreated():
            described = f"key into {fact.state}", fact.key_id, fact.rule, fact.approvals
        case KeyStateChanged():
            described = f"key to {fact.state}", fact.key_id, fact.rule, fact.approvals
        case BatchTaken() | BatchVetoed() | SigningStopped() | SigningResumed():
            described = _describe_order(fact)
        case CheckpointSigned():
            described = f"checkpoint {fact.sequence}", fact.hash.hex(), "", ()
    return described


def _describe_order(
    fact: BatchTaken | BatchVetoed | SigningStopped | SigningResumed,
) -> tuple[str, str, str, tuple[Approval, ...]]:
    match fact:
        case BatchTaken():
            return f"batch of {len(fact.lines)}", fact.digest.hex(), "", fact.approvals
        case BatchVetoed():
            return "batch rejected", fact.digest.hex(), "", (fact.approval,)
        case SigningStopped():
            where = " ".join(filter(None, fact.place))
            return f"stopped {where}", fact.digest.hex(), "", (fact.approval,)
        case SigningResumed():
            return "stop ended", fact.stop.hex(), "governance", fact.approvals
