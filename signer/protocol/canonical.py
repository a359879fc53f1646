"""The one byte string of each intent. Approvers, requester and signer must agree on it byte for byte (SPEC.md
section 2).

The encoding is a flat JSON object: keys sorted, every value a string, no whitespace, printable ASCII only.
Anything else is refused, never normalised, so an intent has no twin with another digest.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from signer.protocol.intent import Intent
from signer.protocol.intents import evm, message, stellar_accounts, stellar_payments
from signer.protocol.intents.header import Kind

FORMAT_VERSION = "1"
SIZE_MAX = 4096
"""Longest accepted encoding in bytes."""
DIGEST_TAG = b"custody-intent-v1\x00"

_NAME = r"[a-z0-9_]{1,40}"
_PLAIN = r"[\x20\x21\x23-\x5b\x5d-\x7e]*+"
_TEXT = rf'{_PLAIN}(?:\\["\\]{_PLAIN})*+'
_PAIR = re.compile(rf'"({_NAME})":"({_TEXT})"')
_ONE = rf'"{_NAME}":"{_TEXT}"'
_FLAT = re.compile(rf"\{{{_ONE}(?:,{_ONE})*+\}}")
"""Never tries a byte twice, whatever it is given: each part takes all that it can and gives nothing back."""
_ESCAPED = re.compile(r"\\(.)")

KINDS: Mapping[str, Kind] = {
    **stellar_payments.KINDS,
    **stellar_accounts.KINDS,
    **evm.KINDS,
    **message.KINDS,
}
"""All that can be signed, by the name of the kind as it stands in the bytes."""
_KIND_OF: Mapping[type[Any], str] = {kind.shape: name for name, kind in KINDS.items()}


class MalformedIntent(Exception):
    """The bytes or the value are not a canonical intent. `code` is stable; `field` names the culprit or is
    empty.
    """

    def __init__(self, code: str, field: str = "") -> None:
        super().__init__(f"{code} {field}".rstrip())
        self.code = code
        self.field = field


def kind_of(intent: Intent) -> str:
    """Return the name of the intent's kind as it stands in the bytes."""
    return _KIND_OF[type(intent)]


def encode(intent: Intent) -> bytes:
    """Return the canonical bytes; raises MalformedIntent when a field is outside its range."""
    values = {field.name: _text(getattr(intent, field.name), field.name) for field in fields(intent)}
    values |= {"kind": kind_of(intent), "v": FORMAT_VERSION}
    data = write_flat(values)
    if decode(data) != intent:
        raise MalformedIntent("not_canonical")
    return data


def decode(data: bytes) -> Intent:
    """Return the intent of exactly these bytes; raises MalformedIntent."""
    values = read_flat(data)
    if values.get("v") != FORMAT_VERSION:
        raise MalformedIntent("unknown_version", "v")
    kind = KINDS.get(values.get("kind", ""))
    if kind is None:
        raise MalformedIntent("unknown_kind", "kind")
    intent: Intent = kind.shape(**_parse_fields(kind, values))
    if intent.expires_at <= intent.not_before:
        raise MalformedIntent("empty_window", "expires_at")
    try:
        kind.check(intent)
    except ValueError as error:
        raise MalformedIntent(*error.args) from error
    # Every character has one spelling and nothing may stand between, so only the order of the names is left to judge.
    if list(values) != sorted(values):
        raise MalformedIntent("not_canonical")
    return intent


def digest(data: bytes) -> bytes:
    """Return the 32 bytes that name this intent everywhere: SHA-256 of the tag and the canonical bytes."""
    return hashlib.sha256(DIGEST_TAG + data).digest()


def _parse_fields(kind: Kind, values: Mapping[str, str]) -> dict[str, str | int]:
    for name in values:
        if name not in kind.parsers and name not in {"v", "kind"}:
            raise MalformedIntent("unknown_field", name)
    parsed: dict[str, str | int] = {}
    for name, parse in kind.parsers.items():
        if name not in values:
            raise MalformedIntent("missing_field", name)
        try:
            parsed[name] = parse(values[name])
        except ValueError as error:
            raise MalformedIntent(str(error), name) from error
    return parsed


def _text(value: object, name: str) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is str:
        return value
    raise MalformedIntent("wrong_type", name)


def write_flat(values: Mapping[str, str]) -> bytes:
    """Return the flat object of these strings; raises MalformedIntent."""
    parts = []
    for name in sorted(values):
        escaped = values[name].replace("\\", "\\\\").replace('"', '\\"')
        parts.append(f'"{name}":"{escaped}"')
    try:
        return ("{" + ",".join(parts) + "}").encode("ascii")
    except UnicodeEncodeError as error:
        raise MalformedIntent("not_ascii") from error


def read_flat(data: bytes) -> dict[str, str]:
    """Read the flat object of strings; refuses whitespace, nesting, numbers, other escapes and repeated keys."""
    if len(data) > SIZE_MAX:
        raise MalformedIntent("too_long")
    # Every byte becomes a character, so that the pattern alone says which may stand where.
    text = data.decode("latin-1")
    if not _FLAT.fullmatch(text):
        raise MalformedIntent("not_canonical")
    pairs = _PAIR.findall(text)
    values = dict(pairs)
    if len(values) != len(pairs):
        repeated = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise MalformedIntent("duplicate_field", repeated)
    if "\\" in text:
        return {name: _ESCAPED.sub(r"\1", value) for name, value in values.items()}
    return values
