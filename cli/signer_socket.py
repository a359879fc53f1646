"""Asking the signer itself, over its socket: what a person has to believe is asked of nobody in between."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TypeVar

from cli.intent_words import plain
from signer.protocol import messages
from signer.protocol.wire import ConnectionEnded, MalformedMessage, receive_frame, send_frame

TIMEOUT_S = 30.0
_Answer = TypeVar("_Answer")


class SignerFault(Exception):
    """The signer refuses or cannot be asked. `str()` is one sentence."""


def ask(path: Path, request: messages.Request, shape: type[_Answer]) -> _Answer:
    """The signer's answer; raises SignerFault when it refuses or cannot be reached."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            send_frame(connection, messages.dump(request))
            answer = messages.load_response(receive_frame(connection))
    except (OSError, ConnectionEnded, MalformedMessage) as error:
        raise SignerFault(f"the signer cannot be asked at {path}: {type(error).__name__}") from error
    if isinstance(answer, messages.Refused):
        raise SignerFault(f"the signer refuses: {plain(answer.code)}: {plain(answer.text)}")
    if not isinstance(answer, shape):
        raise SignerFault("the signer answered another question")
    return answer
