"""The whole audit of one journal."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from signer.audit.anchors import Anchors
from signer.audit.replay import Checked, Replay
from signer.audit.rows import Row, rows_of
from signer.facts import KeyAttested, KeyCreated, TransactionSigned
from signer.journal import Entry
from signer.refusal import EvidenceFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A journal of which every fact stands."""

    entries: int
    head: bytes
    policy_hash: bytes
    """Of the policy in force at its end; the three are the anchor that the token must hold."""
    decisions: int
    signatures: int
    rows: list[Row]
    """Every decision, where asked for."""


def inspect(entries: Iterable[Entry], anchors: Iterable[str], *, keep: bool) -> Report:
    """Check a journal to its end; `keep` the decisions to show them.

    Raises EvidenceFault with the first entry that does not stand, or the first anchor that the journal does not go through.
    """
    replay, expected = Replay(), Anchors(anchors)
    counts = {"decisions": 0, "signatures": 0}

    def checked() -> Iterator[Checked]:
        for entry in expected.watch(entries):
            for each in replay.check(entry):
                _count(counts, each)
                yield each
            expected.meet(entry.n, replay.policy_hash)

    rows: list[Row] = []
    if keep:
        rows = rows_of(checked())
    else:
        for _ in checked():
            pass
    if replay.last is None:
        raise EvidenceFault("the journal is empty")
    expected.finish()
    return Report(
        entries=replay.last.n,
        head=replay.last.head,
        policy_hash=replay.policy_hash,
        decisions=counts["decisions"],
        signatures=counts["signatures"],
        rows=rows,
    )


def _count(counts: dict[str, int], checked: Checked) -> None:
    if isinstance(checked.fact, TransactionSigned):
        counts["signatures"] += 1
    elif not isinstance(checked.fact, KeyAttested | KeyCreated):
        counts["decisions"] += 1
