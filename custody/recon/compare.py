"""Comparing two sides. Pure: values in, rows and breaks out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from custody.holdings.model import ChainHalt
from custody.kernel.assetid import AssetId, native
from custody.kernel.ids import show_id
from custody.recon.model import BankLine, BreakKind, ChainReading, Holding, ReconBreak, ReconRow


def amount_at(readings: Sequence[ChainReading], height: int) -> int | None:
    """What the chain held at `height`, as far as these readings prove it; None when they do not.

    A node with history answers at the height itself. A node without it answers at its newest height only; then a reading before
    and a reading after that agree are taken as proof for all heights between them.
    """
    exact = [reading.amount for reading in readings if reading.height == height]
    if exact:
        return exact[-1]
    before = [reading for reading in readings if reading.height < height]
    after = [reading for reading in readings if reading.height > height]
    if not before or not after:
        return None
    last = max(before, key=lambda reading: reading.height)
    first = min(after, key=lambda reading: reading.height)
    return last.amount if last.amount == first.amount else None


def break_of(row: ReconRow) -> ReconBreak | None:
    """The break that a row shows, or None when its sides are equal."""
    if row.difference == 0:
        return None
    kind = BreakKind.NOT_COMPARABLE if row.outside is None else BreakKind.BALANCE_DIFFERS
    return ReconBreak(
        kind=kind,
        owner=row.holding.owner,
        owner_id=row.holding.owner_id,
        asset=row.holding.asset,
        books=row.books,
        outside=row.outside,
        detail=", ".join(
            filter(None, (row.at, _told("opening", row.opening), _told("waiting", row.waiting)))
        ),
    )


def _told(what: str, amount: int) -> str:
    return f"{what} {amount}" if amount else ""


def halt_break(halt: ChainHalt) -> ReconBreak:
    """What a halted chain is to reconciliation: nothing of it can be compared until a person has decided."""
    fork = halt.fork
    return ReconBreak(
        kind=BreakKind.NOT_COMPARABLE,
        owner=f"chain {fork.chain}",
        owner_id=None,
        asset=native(fork.chain),
        books=0,
        outside=None,
        detail=f"halted: reorganised to block {fork.fork_height}, below the final {fork.final_height}"
        f" ({show_id('hlt', halt.id)} is {halt.state})",
    )


def unmatched_lines(
    holding: Holding, booked: Sequence[BankLine], stated: Sequence[BankLine]
) -> tuple[ReconBreak, ...]:
    """Lines that only one side has. Two lines are the same when kind, the bank's id and amount are; each matches once."""
    ours, theirs = Counter(booked), Counter(stated)
    unbooked = [_line_break(holding, line, BreakKind.UNBOOKED_ENTRY) for line in (theirs - ours).elements()]
    missing = [_line_break(holding, line, BreakKind.MISSING_ENTRY) for line in (ours - theirs).elements()]
    return (*unbooked, *missing)


def trial_breaks(trial_balance: Mapping[AssetId, int]) -> tuple[ReconBreak, ...]:
    """The assets whose debits and credits differ."""
    return tuple(
        ReconBreak(
            kind=BreakKind.TRIAL_BALANCE,
            owner="books",
            owner_id=None,
            asset=asset,
            books=difference,
            outside=0,
            detail="debits less credits",
        )
        for asset, difference in sorted(trial_balance.items())
        if difference != 0
    )


def _line_break(holding: Holding, line: BankLine, kind: BreakKind) -> ReconBreak:
    ours = line.amount if kind is BreakKind.MISSING_ENTRY else 0
    theirs = line.amount if kind is BreakKind.UNBOOKED_ENTRY else 0
    return ReconBreak(
        kind=kind,
        owner=holding.owner,
        owner_id=holding.owner_id,
        asset=holding.asset,
        books=ours,
        outside=theirs,
        detail=f"{line.kind} {line.external_ref}",
    )
