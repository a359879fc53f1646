"""Frames and strict JSON between a requester and the signer (SPEC.md section 4).

A message is one dataclass of `messages`. In JSON it is an object of exactly the dataclass's fields; integers
are minimal decimal strings, bytes are base64, and the outermost object carries "type" (the class name) and
"v". Nothing is optional.
"""

import binascii
import json
import re
import socket
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from typing import Any

FRAME_MAX = 262_144
"""Longest message in bytes, without its 4 bytes of length."""
WIRE_VERSION = "1"

DEPTH_MAX = 8
"""Deepest nesting of a message. Checked before parsing: the parser's own stack is not a limit to rely on."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_DECIMAL = re.compile(r"0|-?[1-9][0-9]{0,78}")


class MalformedMessage(Exception):
    """The bytes are not a message of this protocol. `code` is stable."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class ConnectionEnded(Exception):
    """The peer closed the connection between two messages."""


def send_frame(connection: socket.socket, body: bytes) -> None:
    """Send one length-prefixed message; raises MalformedMessage("too_long") and sends nothing when it is too
    long.
    """
    if len(body) > FRAME_MAX:
        raise MalformedMessage("too_long")
    connection.sendall(len(body).to_bytes(4, "big") + body)


def receive_frame(connection: socket.socket) -> bytes:
    """Receive one message body.

    Raises ConnectionEnded when the peer is gone, MalformedMessage when it announces too much or stops
    half-way, and TimeoutError when the socket's timeout passes.
    """
    length = int.from_bytes(_receive_exactly(connection, 4, at_boundary=True), "big")
    if not 2 <= length <= FRAME_MAX:
        raise MalformedMessage("too_long")
    return _receive_exactly(connection, length, at_boundary=False)


def _receive_exactly(connection: socket.socket, count: int, *, at_boundary: bool) -> bytes:
    received = bytearray()
    while len(received) < count:
        chunk = connection.recv(count - len(received))
        if not chunk:
            if at_boundary and not received:
                raise ConnectionEnded
            raise MalformedMessage("cut_short")
        received += chunk
    return bytes(received)


def dump_message(message: object) -> bytes:
    """Return the JSON bytes of a message dataclass: names sorted, no whitespace, ASCII."""
    shape: Any = type(message)
    names, form = _outer_form(shape)
    return (form % tuple([_dump(getattr(message, name)) for name in names])).encode("ascii")


def load_message(body: bytes, shapes: Mapping[str, type[Any]]) -> Any:
    """Return the message in `body`; its type must be one of `shapes` (by class name). Raises
    MalformedMessage.
    """
    value = _load_json(body)
    if not isinstance(value, dict):
        raise MalformedMessage("not_an_object")
    if value.pop("v", None) != WIRE_VERSION:
        raise MalformedMessage("unknown_version")
    name = value.pop("type", None)
    if not isinstance(name, str) or name not in shapes:
        raise MalformedMessage("unknown_type")
    shape: Any = shapes[name]
    return _record_loader(shape)(value)


def _refuse_number(_text: str) -> Any:
    raise MalformedMessage("bare_number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedMessage("duplicate_field")
    return value


def check_nesting(text: str) -> None:
    """Raise MalformedMessage("too_deep") when lists and objects nest deeper than DEPTH_MAX."""
    if text.count("[") + text.count("{") <= DEPTH_MAX:
        return
    depth = 0
    for letter in _STRING.sub("", text):
        if letter in "[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise MalformedMessage("too_deep")
        elif letter in "]}":
            depth -= 1


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_refuse_number,
    parse_float=_refuse_number,
    parse_constant=_refuse_number,
)


def _load_json(body: bytes) -> Any:
    try:
        text = body.decode("utf-8")
        check_nesting(text)
        return _DECODER.decode(text)
    except ValueError as error:
        raise MalformedMessage("not_json") from error


def _dump(value: Any) -> str:
    kind: Any = type(value)
    if kind is str:
        return json.encoder.encode_basestring_ascii(value)
    if kind is bytes:
        return f'"{binascii.b2a_base64(value, newline=False).decode("ascii")}"'
    if kind is int:
        return f'"{value}"'
    if kind is bool:
        return "true" if value else "false"
    if kind is tuple:
        return f"[{','.join(map(_dump, value))}]"
    names, form = _form(kind)
    return form % tuple([_dump(getattr(value, name)) for name in names])


@cache
def _form(shape: type[Any], **extra: str) -> tuple[tuple[str, ...], str]:
    """Return the names of a dataclass's fields in the order of its JSON, and that JSON with a gap for each."""
    if not is_dataclass(shape):
        raise TypeError(f"{shape.__name__} has no wire form")
    names = tuple(sorted(field.name for field in fields(shape)))
    parts = {**dict.fromkeys(names, "%s"), "type": f'"{shape.__name__}"', **extra}
    return names, "{" + ",".join(f'"{name}":{parts[name]}' for name in sorted(parts)) + "}"


@cache
def _outer_form(shape: Any) -> tuple[tuple[str, ...], str]:
    """Return the same of a whole message, which tells its version too."""
    return _form(shape, v=f'"{WIRE_VERSION}"')


@cache
def _loader(shape: Any) -> Callable[[object], Any]:
    """Return what turns JSON into the annotated type `shape`: str, int, bool, bytes, tuple[X, ...], a dataclass or a
    union of them.
    """
    plain = {str: _load_text, bool: _load_boolean, int: _load_integer, bytes: _load_bytes}
    if shape in plain:
        return plain[shape]
    if typing.get_origin(shape) is tuple:
        return partial(_load_list, _loader(typing.get_args(shape)[0]))
    choices = typing.get_args(shape) if isinstance(shape, types.UnionType) else (shape,)
    return partial(_load_choice, {choice.__name__: choice for choice in choices})


@cache
def _record_loader(shape: type[Any]) -> Callable[[dict[str, Any]], Any]:
    hints = typing.get_type_hints(shape)
    return partial(_load_record, shape, {field.name: _loader(hints[field.name]) for field in fields(shape)})


def _load_choice(choices: Mapping[str, type[Any]], value: object) -> Any:
    if not isinstance(value, dict):
        raise MalformedMessage("wrong_type")
    name = value.pop("type", next(iter(choices)))
    if not isinstance(name, str) or name not in choices:
        raise MalformedMessage("unknown_type")
    shape: Any = choices[name]
    return _record_loader(shape)(value)


def _load_record(
    shape: type[Any], loaders: Mapping[str, Callable[[object], Any]], value: dict[str, Any]
) -> Any:
    if value.keys() != loaders.keys():
        raise MalformedMessage("unknown_field" if value.keys() - loaders.keys() else "missing_field")
    return shape(**{name: load(value[name]) for name, load in loaders.items()})


def _load_list(load: Callable[[object], Any], value: object) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise MalformedMessage("wrong_type")
    return tuple([load(item) for item in value])


def _load_text(value: object) -> str:
    if type(value) is not str:
        raise MalformedMessage("wrong_type")
    return value


def _load_boolean(value: object) -> bool:
    if type(value) is not bool:
        raise MalformedMessage("wrong_type")
    return value


def _load_integer(value: object) -> int:
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise MalformedMessage("not_minimal")
    return int(value)


def _load_bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise MalformedMessage("wrong_type")
    try:
        data = binascii.a2b_base64(value, strict_mode=True)
    except ValueError as error:
        raise MalformedMessage("bad_base64") from error
    if binascii.b2a_base64(data, newline=False).decode("ascii") != value:
        raise MalformedMessage("bad_base64")
    return data
