"""Pages by cursor: opaque to the client, never a number of rows to skip.

A cursor names the last row seen by its ordering key, so that rows that arrive meanwhile neither repeat nor hide others. It
carries the name of its list and our signature: a cursor of another list, or one that somebody made up, is refused instead of
giving a silently wrong page. The edge binds the secret for each request.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar
from uuid import UUID

from api.errors import MalformedCursor
from custody.settings import Settings

PAGE_DEFAULT = 50
PAGE_MAX = 100

_SECRET: ContextVar[bytes] = ContextVar("cursor_secret")
_MARK_BYTES = 12
"""A made-up cursor is harmless, row-level security sees to that: 96 bits keep it short."""

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


def cursor_secret(chosen: Settings) -> bytes:
    """What cursors are signed with: the same in every API process of an installation."""
    given = chosen.api.cursor_secret or chosen.database.url
    return hmac.digest(given.get_secret_value().encode(), b"page cursors", sha256)


@contextmanager
def signing_cursors(secret: bytes) -> Iterator[None]:
    """Sign and check cursors with this secret inside."""
    token = _SECRET.set(secret)
    try:
        yield
    finally:
        _SECRET.reset(token)


def show_cursor(of: str, key: UUID | int) -> str:
    """The cursor after the row with this key in the list named `of`."""
    return _show(of, key.hex if isinstance(key, UUID) else str(key))


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
    return _show(of, f"{key.hex}/{more}")


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


def _show(of: str, place: str) -> str:
    named = f"{of}:{place}".encode()
    return base64.urlsafe_b64encode(_mark(named) + named).decode().rstrip("=")


def _parse(of: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        mark, signed = plain[:_MARK_BYTES], plain[_MARK_BYTES:]
        name, _, shown = signed.decode("ascii").partition(":")
    except (binascii.Error, ValueError) as error:
        raise MalformedCursor from error
    if name != of or not shown or not hmac.compare_digest(mark, _mark(signed)):
        raise MalformedCursor
    return shown


def _mark(shown: bytes) -> bytes:
    return hmac.digest(_SECRET.get(), shown, sha256)[:_MARK_BYTES]
