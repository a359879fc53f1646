"""Connections: who called, what has arrived of a frame, until when it must be complete."""

import contextlib
import socket
import threading

from signer.log import log_event
from signer.protocol.messages import Refused, Response, dump
from signer.protocol.wire import FRAME_MAX, MalformedMessage

_LENGTH = 4
_READ_MAX = 65_536
"""Most bytes taken at once: more than a request has, more than a TLS record, and little enough to cost nothing."""


class Connection:
    """One peer. The server's loop receives, a worker answers; a request is handed out when the one before it is answered."""

    def __init__(self, peer: socket.socket, roles: frozenset[str], deadline: float) -> None:
        self.roles = roles
        self.deadline = deadline
        """Monotonic second by which more must have arrived, unless a request is being worked on."""
        self._peer = peer
        self._received = bytearray()
        self._guard = threading.Lock()
        self._busy = False
        """Whether a request was handed out that is not answered yet."""
        self._over = False
        self.is_ahead = False
        """Whether the peer sent more than one frame ahead of its answers, so that no answer to that can be sent."""
        peer.setblocking(False)
        # An answer fits whole, so that a peer who does not read can never make a worker wait.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * FRAME_MAX)

    def fileno(self) -> int:
        """Return the descriptor, for the selector."""
        return self._peer.fileno()

    def is_spent(self, now: float) -> bool:
        """Tell whether the connection can be closed: nobody works for it, and it is over or took too long."""
        return not self._busy and (self._over or now > self.deadline)

    def receive(self, complete_deadline: float) -> bytes | None:
        """Take what has arrived; return a frame's body when it is whole and its turn, or None.

        Raises OSError when the peer is gone, MalformedMessage when it announces or sends more than it may.
        """
        part = self._peer.recv(_READ_MAX)
        with self._guard:
            if not part:
                raise ConnectionResetError
            if not self._received:
                self.deadline = complete_deadline
            self._received += part
            if self._busy and len(self._received) > _LENGTH + FRAME_MAX:
                self.is_ahead = True
                raise MalformedMessage("too_long")
            return None if self._busy else self._take()

    def answer(self, response: Response, idle_deadline: float, complete_deadline: float) -> bytes | None:
        """Send the answer; return the body of the frame that has arrived meanwhile, if one has.

        Raises OSError when the peer is gone or does not read, MalformedMessage when the answer is too long to send or what
        has arrived is no frame.
        """
        body = dump(response)
        with self._guard:
            self._busy = False
            self.deadline = complete_deadline if self._received else idle_deadline
            if self._over:
                raise ConnectionResetError
            if len(body) > FRAME_MAX:
                raise MalformedMessage("too_long")
            if self._peer.send(len(body).to_bytes(_LENGTH, "big") + body) != _LENGTH + len(body):
                raise BlockingIOError
            return self._take()

    def end(self) -> None:
        """Let nothing more be sent or received; the loop closes the connection when nobody works for it."""
        with self._guard:
            self._over = True

    def close(self) -> None:
        """Release the descriptor."""
        self.end()
        self._peer.close()

    def _take(self) -> bytes | None:
        if len(self._received) < _LENGTH:
            return None
        size = int.from_bytes(self._received[:_LENGTH], "big")
        if not 2 <= size <= FRAME_MAX:
            raise MalformedMessage("too_long")
        end = _LENGTH + size
        if len(self._received) < end:
            return None
        body = bytes(self._received[_LENGTH:end])
        del self._received[:end]
        self._busy = True
        return body


def turn_away(peer: socket.socket, code: str) -> None:
    """Say why and hang up. To a peer that expects TLS these bytes mean as much as a closed connection."""
    log_event("signer.connection_refused", code=code)
    with peer:
        peer.setblocking(False)
        body = dump(Refused(code=code, text="the connection is not accepted"))
        with contextlib.suppress(OSError):
            peer.send(len(body).to_bytes(4, "big") + body)
