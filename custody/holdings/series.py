"""How holdings have stood and stand, for people who look at them. What decides anything is in `compare` and `stops`.

A holding's comparisons are its history: one row for every height at which books or chain changed. Of a range that has more of
them than may be shown, points at even distances are taken, each of them exact; where breaks began and ended is always among them.
"""

from __future__ import annotations

from dataclasses import replace

from custody.db.session import ReadSession
from custody.holdings import break_store, series_store, store
from custody.holdings.series_model import (
    BREAKS_MAX,
    HoldingCheck,
    HoldingSeries,
    Which,
)


async def list_checks(
    session: ReadSession, which: Which = "all", *, after: store.Key | None = None, limit: int = 100
) -> list[HoldingCheck]:
    """How holdings stand now, in the order of their keys, after one of them."""
    rows = await series_store.load_checks(session, which, after, limit)
    wanted = [break_id for _, break_id in rows if break_id is not None]
    found = {each.id: each for each in await break_store.load_open_of_ids(session, wanted)}
    return [
        check if break_id is None else replace(check, found=found.get(break_id)) for check, break_id in rows
    ]


async def read_series(
    session: ReadSession, key: store.Key, *, height_from: int | None, height_to: int, points: int
) -> HoldingSeries | None:
    """A holding's books and chain between two heights, from its first comparison unless told; None where it has none."""
    first = await series_store.load_first_height(session, key)
    if first is None:
        return None
    low = first if height_from is None else max(first, height_from)
    high = max(low, height_to)
    breaks = await series_store.load_breaks_between(session, key, low, high, BREAKS_MAX)
    newest = await series_store.load_all(session, key, low, high, points)
    exact = len(newest) < points
    if exact:
        found = [*await series_store.load_at(session, key, [low]), *reversed(newest)]
    else:
        marks = {each.opened.height for each in breaks} | {
            each.closed_height for each in breaks if each.closed_height is not None
        }
        even = {low + (high - low) * step // (points - 1) for step in range(points)}
        found = await series_store.load_at(
            session, key, sorted(even | {m for m in marks if low <= m <= high})
        )
    return HoldingSeries(
        points=tuple(found), breaks=tuple(breaks), height_from=low, height_to=high, exact=exact
    )
