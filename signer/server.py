"""What peers may ask, how much and how long; every answer is a message."""

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from signer.answers import REQUESTER
from signer.cases import Outcome
from signer.config import Limits
from signer.connections import Connection, turn_away
from signer.doors import Door
from signer.log import log_event, log_events
from signer.protocol import batch, canonical, governance, stops
from signer.protocol.batch import ApproveBatch
from signer.protocol.messages import (
    ChangeKey,
    ChangePolicy,
    Refused,
    Request,
    Response,
    Sign,
    Veto,
    load_request,
)
from signer.protocol.stops import Resume, Stop
from signer.protocol.voids import Void
from signer.protocol.wire import MalformedMessage
from signer.refusal import HsmFault, KeyFault, Refusal

_POLL_S = 0.5
_LOBBY_POLL_S = 0.02
_LOBBY_MAX = 64
_TOGETHER_MAX = 64
"""Most signatures decided as one."""


class Server:
    """Lets peers in at its doors until told to stop, then lets running requests finish.

    One thread reads what arrives; a few workers answer. A worker takes everything that waits, so that signatures asked for
    together are decided and made durable together, and requests that wait cost neither a thread nor a fight for the
    interpreter's lock.
    """

    def __init__(
        self,
        limits: Limits,
        workers: int,
        doors: Sequence[Door],
        answer: Callable[[frozenset[str], Request], Response],
        sign_all: Callable[[list[Sign]], list[Outcome]],
    ) -> None:
        """`workers` answer; about as many as the token has sessions, since more of them only fight for the interpreter's lock."""
        self._limits = limits
        self._workers = workers
        self._doors = doors
        self._answer = answer
        self._sign_all = sign_all
        self._stopping = threading.Event()
        self._connections: dict[Connection, Door] = {}
        self._lobby: deque[_Guest] = deque()
        """Who has come in and waits for room, in order."""
        self._bell, self._ear = socket.socketpair()
        """Rung when somebody came in whom a door had to ask first."""
        self._selector = selectors.DefaultSelector()
        self._calls: deque[_Call] = deque()
        self._calling = threading.Condition()
        """Around the calls that wait for a worker."""

    def serve(self) -> None:
        """Accept until `stop`; returns after the last running request is answered."""
        workers = [threading.Thread(target=self._work) for _ in range(self._workers)]
        for worker in workers:
            worker.start()
        for door in self._doors:
            self._selector.register(door.listener, selectors.EVENT_READ, door)
        self._selector.register(self._ear, selectors.EVENT_READ)
        try:
            self._receive()
        finally:
            self._stopping.set()
            with self._calling:
                self._calling.notify_all()
            for worker in workers:
                worker.join()
            for connection in self._connections:
                connection.close()
            for guest in self._lobby:
                guest.peer.close()
            for door in self._doors:
                door.close()
            self._selector.close()
            self._bell.close()
            self._ear.close()

    def stop(self) -> None:
        """Make `serve` return; safe to call from a signal handler."""
        self._stopping.set()

    def _receive(self) -> None:
        """Take in what arrives, from whom there is room for, until told to stop."""
        sweep_at = 0.0
        while not self._stopping.is_set():
            calls = []
            for key, _ in self._selector.select(_LOBBY_POLL_S if self._lobby else _POLL_S):
                if key.fileobj is self._ear:
                    self._ear.recv(_LOBBY_MAX)
                elif isinstance(key.data, Connection):
                    calls += self._read(key.data)
                else:
                    self._accept(key.data)
            self._enqueue(calls)
            now = time.monotonic()
            if self._lobby or now >= sweep_at:
                self._sweep(now)
                self._admit(now)
                sweep_at = now + _POLL_S

    def _accept(self, door: Door) -> None:
        try:
            peer, _ = door.listener.accept()
            door.let_in(peer, lambda stream, roles: self._welcome(door, stream, roles))
        except BlockingIOError:
            return
        except OSError as error:
            # Out of descriptors, or the peer is gone already: neither may end the signer.
            log_event("signer.accept_failed", code=error.errno or 0)
            self._stopping.wait(_POLL_S)

    def _welcome(self, door: Door, stream: socket.socket, roles: frozenset[str]) -> None:
        """Take in a peer whose roles are known; from any thread."""
        if not roles:
            turn_away(stream, "forbidden")
            return
        # Whoever hangs up may call again before the end of the old call has been noticed.
        deadline = time.monotonic() + door.patience_s
        self._lobby.append(_Guest(peer=stream, roles=roles, door=door, deadline=deadline))
        with contextlib.suppress(OSError):
            self._bell.send(b"!")

    def _admit(self, now: float) -> None:
        """Give room to those who wait for it, oldest first; turn away who has waited too long."""
        for _ in range(len(self._lobby)):
            guest = self._lobby.popleft()
            if self._has_room(guest.door):
                connection = Connection(guest.peer, guest.roles, now + self._limits.idle_s)
                self._connections[connection] = guest.door
                self._selector.register(connection, selectors.EVENT_READ, connection)
            elif now > guest.deadline or len(self._lobby) >= _LOBBY_MAX:
                turn_away(guest.peer, "busy")
            else:
                self._lobby.append(guest)

    def _has_room(self, door: Door) -> bool:
        return sum(1 for entered in self._connections.values() if entered is door) < door.connections

    def _sweep(self, now: float) -> None:
        for connection in [one for one in self._connections if one.is_spent(now)]:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        """Forget a connection; one that a worker works for keeps its room until then."""
        if connection.fileno() in self._selector.get_map():
            self._selector.unregister(connection)
        connection.end()
        if connection.is_spent(0):
            self._connections.pop(connection, None)
            connection.close()

    def _read(self, connection: Connection) -> list["_Call"]:
        """Return the request that is complete now, if one is."""
        try:
            body = connection.receive(time.monotonic() + self._limits.request_s)
            return [] if body is None else [_Call(connection, load_request(body))]
        except MalformedMessage as error:
            self._refuse_malformed(connection, error)
            self._drop(connection)
        except BlockingIOError:
            return []
        except OSError:
            self._drop(connection)
        return []

    def _refuse_malformed(self, connection: Connection, error: MalformedMessage) -> None:
        log_event("signer.malformed_message", code=error.code)
        if not connection.is_ahead:
            self._reply(connection, Refused(code="malformed_message", text=f"not a message: {error.code}"))
        connection.end()

    def _enqueue(self, calls: list["_Call"]) -> None:
        if calls:
            with self._calling:
                self._calls.extend(calls)
                self._calling.notify()

    def _work(self) -> None:
        """Answer what waits, until told to stop and nothing waits any more."""
        while True:
            with self._calling:
                while not self._calls:
                    if self._stopping.is_set():
                        return
                    self._calling.wait()
                calls = [self._calls.popleft() for _ in range(min(len(self._calls), _TOGETHER_MAX))]
                if self._calls:
                    self._calling.notify()
            together = [call for call in calls if call.is_sign]
            self._answer_together(together)
            for call in calls:
                if not call.is_sign:
                    self._finish(call, self._answer_safely(call))

    def _answer_together(self, calls: list["_Call"]) -> None:
        """Answer requests for signatures as one; each has its own outcome."""
        requests = [call.request for call in calls if isinstance(call.request, Sign)]
        try:
            outcomes = self._sign_all(requests) if requests else []
        except Exception as defect:  # noqa: BLE001 - as in `_answer_safely`; the request that meets it answers for itself alone
            log_event("signer.defect", where=_place_of(defect))
            for call in calls:
                self._finish(call, self._answer_safely(call))
            return
        answered = [_answer_to(call, outcome) for call, outcome in zip(calls, outcomes, strict=True)]
        log_events([line for _, line in answered])
        for call, (response, _) in zip(calls, answered, strict=True):
            self._finish(call, response)

    def _answer_safely(self, call: "_Call") -> Response:
        try:
            outcome: Response | Refusal | HsmFault = self._answer(call.connection.roles, call.request)
        except (Refusal, HsmFault) as failure:
            outcome = failure
        except Exception as defect:  # noqa: BLE001 - the process loop; a defect must not end the other connections
            # The process loop's last line: a defect answers with a code, and the log says where it is.
            log_events([call.line("internal_fault", _place_of(defect))])
            return Refused(code="internal_fault", text="the signer has a defect; its log says where")
        response, line = _answer_to(call, outcome)
        log_events([line])
        return response

    def _finish(self, call: "_Call", response: Response) -> None:
        body = self._reply(call.connection, response)
        if body is None or self._stopping.is_set():
            return
        try:
            self._enqueue([_Call(call.connection, load_request(body))])
        except MalformedMessage as error:
            self._refuse_malformed(call.connection, error)

    def _reply(self, connection: Connection, response: Response) -> bytes | None:
        """Send an answer; return the body of the request that has arrived meanwhile, if one has."""
        now, limits = time.monotonic(), self._limits
        try:
            return connection.answer(response, now + limits.idle_s, now + limits.request_s)
        except (OSError, MalformedMessage):
            connection.end()
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guest:
    """A peer that waits for room."""

    peer: socket.socket
    roles: frozenset[str]
    door: Door
    deadline: float
    """Monotonic second until which it waits."""


class _Call:
    """A request that waits for its answer."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self.connection = connection
        self.request = request
        self.is_sign = isinstance(request, Sign) and bool(connection.roles & REQUESTER)
        """Whether it may be answered together with others."""
        self._started = time.monotonic()

    def line(self, code: str, where: str = "") -> dict[str, str | int]:
        """Return the request's line of the log."""
        return {
            "event": "signer.answered",
            "request": type(self.request).__name__,
            "digest": self._digest(),
            "code": code,
            "where": where,
            "ms": int((time.monotonic() - self._started) * 1000),
        }

    def _digest(self) -> str:
        """Return the digest of the intent that was asked about, "" for none: what ties a refusal to what people approved."""
        match self.request:
            case Sign(intent=data) | Void(intent=data):
                return canonical.digest(data).hex()
            case ApproveBatch(batch=data):
                return batch.digest(data).hex()
            case Stop(order=data):
                return stops.digest(data).hex()
            case ChangeKey(intent=data) | ChangePolicy(intent=data) | Resume(intent=data):
                return governance.digest(data).hex()
            case Veto(intent=data):
                name = governance.digest if governance.is_governance(data) else canonical.digest
                return name(data).hex()
            case _:
                return ""


def _answer_to(call: _Call, outcome: Response | Refusal | HsmFault) -> tuple[Response, dict[str, str | int]]:
    """Return what the peer is told, and what the log is."""
    if isinstance(outcome, Refusal):
        return Refused(code=outcome.code, text=outcome.text), call.line(outcome.code)
    if isinstance(outcome, KeyFault):
        text = "the key is not what it must be; the signer's log says why"
        return Refused(code="key_fault", text=text), call.line("key_fault", str(outcome))
    if isinstance(outcome, HsmFault):
        text = "the HSM failed; ask again with the same request"
        return Refused(code="hsm_fault", text=text), call.line("hsm_fault", str(outcome))
    return outcome, call.line("ok")


def _place_of(defect: Exception) -> str:
    """Return type and line of a defect without its text, which could carry values."""
    trace = defect.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(defect).__name__} {place}"
