"""Strict reading of the policy document: every shape is demanded, nothing is converted. All raise StartupFault with the place."""

import re
from collections.abc import Callable
from typing import Any

from signer.refusal import StartupFault

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")
_TEXT = re.compile(r"[\x20-\x7e]{1,200}")
_WORD = re.compile(r"[\x21-\x7e]{1,200}")
_LABEL = re.compile(r"[\x20-\x7e]{1,100}")


def wrong(what: str) -> StartupFault:
    """Return the fault that says what is wrong with the policy."""
    return StartupFault(f"the policy is not valid: {what}")


def record_of(value: object, names: set[str], place: str) -> dict[str, Any]:
    """Return the object with exactly these fields."""
    if not isinstance(value, dict) or value.keys() != names:
        raise wrong(f"{place} must have exactly the fields {', '.join(sorted(names))}")
    return value


def list_of(value: object, place: str) -> list[Any]:
    """Return the list."""
    if not isinstance(value, list):
        raise wrong(f"{place} must be a list")
    return value


def text_of(value: object, place: str) -> str:
    """Return the line of 1 to 200 printable ASCII characters: what people read in a policy cannot pose as another line of it."""
    if not isinstance(value, str) or not _TEXT.fullmatch(value):
        raise wrong(f"{place} must be 1 to 200 printable characters")
    return value


def word_of(value: object, place: str) -> str:
    """Return the same without a space: what people read as one value is one."""
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise wrong(f"{place} must be 1 to 200 printable characters without a space")
    return value


def name_of(value: object, place: str) -> str:
    """Return the short name."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise wrong(f"{place} must be a short name")
    return value


def label_of(value: object, place: str) -> str:
    """Return the words for people: 1 to 100 printable ASCII characters."""
    if not isinstance(value, str) or not _LABEL.fullmatch(value):
        raise wrong(f"{place} must be 1 to 100 printable characters")
    return value


def integer_of(value: object, place: str) -> int:
    """Return the integer, from 1 to 2^31-1."""
    if type(value) is not int or not 1 <= value < 2**31:
        raise wrong(f"{place} must be an integer of at least 1")
    return value


def seconds_of(value: object, place: str) -> int:
    """Return the length of a wait, from 0 to 2^31-1 seconds."""
    return 0 if type(value) is int and value == 0 else integer_of(value, place)


def atomic_of(value: object, place: str) -> int:
    """Return the atomic units in this decimal string."""
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise wrong(f"{place} must be a decimal string of atomic units")
    return int(value)


def texts_of(value: object, place: str, parse: Callable[[object, str], str]) -> tuple[str, ...]:
    """Return the items of a list that is neither empty nor repeats itself."""
    items = tuple(parse(item, place) for item in list_of(value, place))
    if not items or len(set(items)) != len(items):
        raise wrong(f"{place} must not be empty or repeat itself")
    return items
