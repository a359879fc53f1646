"""Frames and strict JSON between a requester and the signer (SPEC.md section 4).

A message is one dataclass of `messages`. In JSON it is an object of exactly the dataclass's fields; integers
are minimal decimal strings, bytes are base64, and the outermost object carries "type" (the class name) and
"v". Nothing is optional.
"""

import base64
import binascii
import json
import re
import socket
import time
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
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
    return _receive_body(connection.recv)


def receive_frame_before(connection: socket.socket, deadline: float) -> bytes:
    """Receive one message body completely before `deadline` (time.monotonic), however slowly the peer sends.

    Raises as `receive_frame`.
    """

    def receive(count: int) -> bytes:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        connection.settimeout(remaining)
        return connection.recv(count)

    return _receive_body(receive)


def _receive_body(receive: Callable[[int], bytes]) -> bytes:
    length = int.from_bytes(_receive_exactly(receive, 4, at_boundary=True), "big")
    if not 2 <= length <= FRAME_MAX:
        raise MalformedMessage("too_long")
    return _receive_exactly(receive, length, at_boundary=False)


def _receive_exactly(receive: Callable[[int], bytes], count: int, *, at_boundary: bool) -> bytes:
    received = bytearray()
    while len(received) < count:
        chunk = receive(count - len(received))
        if not chunk:
            if at_boundary and not received:
                raise ConnectionEnded
            raise MalformedMessage("cut_short")
        received += chunk
    return bytes(received)


def dump_message(message: object) -> bytes:
    """Return the JSON bytes of a message dataclass."""
    value = {"v": WIRE_VERSION, "type": type(message).__name__, **_dump_fields(message)}
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


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
    return _load(shapes[name], value)


def _refuse_number(_text: str) -> Any:
    raise MalformedMessage("bare_number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedMessage("duplicate_field")
    return value


def check_nesting(text: str) -> None:
    """Raise MalformedMessage("too_deep") when lists and objects nest deeper than DEPTH_MAX."""
    depth = 0
    for letter in _STRING.sub("", text):
        if letter in "[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise MalformedMessage("too_deep")
        elif letter in "]}":
            depth -= 1


def _load_json(body: bytes) -> Any:
    try:
        text = body.decode("utf-8")
        check_nesting(text)
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_refuse_number,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except ValueError as error:
        raise MalformedMessage("not_json") from error


def _dump_fields(value: Any) -> dict[str, Any]:
    return {name: _dump(getattr(value, name)) for name in _shape(type(value))}


def _dump(value: Any) -> Any:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, tuple):
        return [_dump(item) for item in value]
    if is_dataclass(value):
        return {"type": type(value).__name__, **_dump_fields(value)}
    raise TypeError(f"{type(value).__name__} has no wire form")


def _shape(shape: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(shape)
    return {field.name: hints[field.name] for field in fields(shape)}


def _load(shape: Any, value: object) -> Any:
    """Return `value` as the annotated type `shape`: str, int, bool, bytes, tuple[X, ...], a dataclass or a
    union of them.
    """
    if shape is str or shape is bool:
        if type(value) is not shape:
            raise MalformedMessage("wrong_type")
        return value
    if shape is int:
        return _load_integer(value)
    if shape is bytes:
        return _load_bytes(value)
    if typing.get_origin(shape) is tuple:
        if not isinstance(value, list):
            raise MalformedMessage("wrong_type")
        item_shape = typing.get_args(shape)[0]
        return tuple(_load(item_shape, item) for item in value)
    choices = typing.get_args(shape) if isinstance(shape, types.UnionType) else (shape,)
    return _load_record({choice.__name__: choice for choice in choices}, value)


def _load_record(choices: Mapping[str, type[Any]], value: object) -> Any:
    if not isinstance(value, dict):
        raise MalformedMessage("wrong_type")
    name = value.pop("type", next(iter(choices)))
    if not isinstance(name, str) or name not in choices:
        raise MalformedMessage("unknown_type")
    expected = _shape(choices[name])
    if value.keys() != expected.keys():
        raise MalformedMessage("unknown_field" if value.keys() - expected.keys() else "missing_field")
    return choices[name](**{field: _load(kind, value[field]) for field, kind in expected.items()})


def _load_integer(value: object) -> int:
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise MalformedMessage("not_minimal")
    return int(value)


def _load_bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise MalformedMessage("wrong_type")
    try:
        data = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error) as error:
        raise MalformedMessage("bad_base64") from error
    if base64.b64encode(data).decode("ascii") != value:
        raise MalformedMessage("bad_base64")
    return data
