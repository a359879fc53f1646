"""Pages by cursor: opaque to the client, never a number of rows to skip.

A cursor names the last row seen by its ordering key, so that rows that arrive meanwhile neither repeat nor hide others. It
carries the name of its list: a cursor of another list is refused instead of giving a silently wrong page.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from api.errors import MalformedCursor

PAGE_DEFAULT = 50
PAGE_MAX = 100

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[Row]):
    """Some rows of a list, and whether more follow."""

    rows: tuple[Row, ...]
    """In the list's order."""
    more: bool
    """Whether the list goes on after the last of them."""


def page_of(found: Sequence[Row], limit: int) -> Page[Row]:
    """The page out of up to `limit + 1` rows: the one too many only tells that there are more."""
    return Page(rows=tuple(found[:limit]), more=len(found) > limit)


def next_cursor(page: Page[Row], cursor_of: Callable[[Row], str]) -> str | None:
    """The cursor after this page, or None at the list's end."""
    return cursor_of(page.rows[-1]) if page.more and page.rows else None


def show_cursor(of: str, key: UUID | int) -> str:
    """The cursor after the row with this key in the list named `of`."""
    shown = key.hex if isinstance(key, UUID) else str(key)
    return base64.urlsafe_b64encode(f"{of}:{shown}".encode()).decode().rstrip("=")


def parse_id_cursor(of: str, text: str | None) -> UUID | None:
    """The id that a cursor names. Raises MalformedCursor."""
    shown = _parse(of, text)
    if shown is None:
        return None
    try:
        return UUID(hex=shown)
    except ValueError as error:
        raise MalformedCursor from error


def parse_number_cursor(of: str, text: str | None) -> int | None:
    """The sequence number that a cursor names. Raises MalformedCursor."""
    shown = _parse(of, text)
    if shown is None:
        return None
    if not (shown.isascii() and shown.isdigit() and len(shown) < 19):
        raise MalformedCursor
    return int(shown)


def show_pair_cursor(of: str, key: UUID, more: str) -> str:
    """The cursor after the row with this key of two parts in the list named `of`."""
    return base64.urlsafe_b64encode(f"{of}:{key.hex}/{more}".encode()).decode().rstrip("=")


def parse_pair_cursor(of: str, text: str | None) -> tuple[UUID, str] | None:
    """The two parts that a cursor names. Raises MalformedCursor."""
    shown = _parse(of, text)
    if shown is None:
        return None
    first, _, more = shown.partition("/")
    try:
        return UUID(hex=first), more
    except ValueError as error:
        raise MalformedCursor from error


def _parse(of: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise MalformedCursor from error
    name, _, shown = plain.partition(":")
    if name != of or not shown:
        raise MalformedCursor
    return shown
