"""What peers may ask, how much and how long; one thread per connection; every answer is a message."""

import errno
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import assert_never

from signer.config import Limits
from signer.decide import Decider
from signer.doors import Door, await_input, end_reading
from signer.log import log_event
from signer.policy.document import Policy
from signer.protocol.checkpoint import VAULT as CHECKPOINTS
from signer.protocol.key_backup import AdmitKey, ExportKeys
from signer.protocol.messages import (
    ApproverView,
    CreateKey,
    DenyRuleView,
    Explain,
    GetPolicy,
    Health,
    ListKeys,
    NetworkView,
    PolicyView,
    PublicKey,
    Refused,
    Request,
    Response,
    RuleView,
    Sign,
    SignCheckpoint,
    Veto,
    WindowView,
    dump,
    load_request,
)
from signer.protocol.wire import ConnectionEnded, MalformedMessage, receive_frame_before, send_frame
from signer.refusal import HsmFault, KeyFault, Refusal

_POLL_S = 0.5
_REQUESTER = frozenset({"requester"})
_APPROVER = frozenset({"requester", "approver"})
_OPERATOR = frozenset({"operator"})
_ANY = frozenset({"requester", "approver", "operator", "observer"})


def answer(decider: Decider, policy: Policy, roles: frozenset[str], request: Request) -> Response:
    """Return the answer to a request by a peer with these roles; raises Refusal or HsmFault."""
    match request:
        case Sign():
            _demand(roles, _REQUESTER)
            return decider.sign(request)
        case SignCheckpoint():
            _demand(roles, _REQUESTER)
            return decider.sign_checkpoint(request)
        case Veto():
            _demand(roles, _APPROVER)
            return decider.veto(request)
        case CreateKey():
            if request.vault == CHECKPOINTS and not roles & _OPERATOR:
                _demand(roles, _REQUESTER)
                return decider.create_first_checkpoint_key(request)
            _demand(roles, _OPERATOR)
            return decider.create_key(request)
        case AdmitKey():
            _demand(roles, _OPERATOR)
            return decider.admit_key(request)
        case ExportKeys():
            _demand(roles, _OPERATOR)
            return decider.export_keys(request)
        case _:
            _demand(roles, _ANY)
            return _show(decider, policy, request)


def _show(
    decider: Decider, policy: Policy, request: Explain | PublicKey | ListKeys | GetPolicy | Health
) -> Response:
    """Answer what changes nothing."""
    match request:
        case Explain():
            return decider.explain(request)
        case PublicKey():
            return decider.public_key(request.key_id)
        case ListKeys():
            return decider.list_keys(request)
        case GetPolicy():
            return view_policy(policy)
        case Health():
            return decider.health()
        case _:
            assert_never(request)


def _demand(roles: frozenset[str], any_of: frozenset[str]) -> None:
    if not roles & any_of:
        raise Refusal("forbidden", "the peer's role does not cover this request")


def view_policy(policy: Policy) -> PolicyView:
    """Return the policy as it goes over the wire."""
    return PolicyView(
        version=policy.version,
        approver_set_version=policy.approver_set_version,
        policy_hash=policy.hash.hex(),
        networks=tuple(NetworkView(chain=name, passphrase=text) for name, text in policy.networks.items()),
        approvers=tuple(
            ApproverView(id=one.id, keys=one.keys, groups=one.groups) for one in policy.approvers.values()
        ),
        deny=tuple(
            DenyRuleView(
                id=rule.id,
                org=rule.scope.org,
                vault=rule.scope.vault,
                chain=rule.scope.chain,
                kind=rule.scope.kind,
                asset=rule.scope.asset,
                destinations=rule.scope.destinations,
            )
            for rule in policy.deny
        ),
        allow=tuple(
            RuleView(
                id=rule.id,
                org=rule.scope.org,
                vault=rule.scope.vault,
                chain=rule.scope.chain,
                kind=rule.scope.kind,
                asset=rule.scope.asset,
                destinations=rule.scope.destinations,
                amount_max=rule.amount_max,
                fee_max=rule.fee_max,
                windows=tuple(WindowView(seconds=w.seconds, amount_max=w.amount_max) for w in rule.windows),
                group=rule.group,
                threshold=rule.threshold,
            )
            for rule in policy.allow
        ),
    )


class Server:
    """Lets peers in at its doors until told to stop, then lets running requests finish."""

    def __init__(
        self,
        limits: Limits,
        doors: Sequence[Door],
        answer: Callable[[frozenset[str], Request], Response],
    ) -> None:
        self._limits = limits
        self._doors = doors
        self._answer = answer
        self._stopping = threading.Event()
        self._guard = threading.Condition()
        self._talks: dict[threading.Thread, tuple[Door, socket.socket]] = {}

    def serve(self) -> None:
        """Accept until `stop`; returns after the last running request is answered."""
        with selectors.DefaultSelector() as selector:
            for door in self._doors:
                selector.register(door.listener, selectors.EVENT_READ, door)
            while not self._stopping.is_set():
                for key, _ in selector.select(_POLL_S):
                    self._accept(key.data)
        for door in self._doors:
            door.close()
        with self._guard:
            running = dict(self._talks)
        for thread, (_, stream) in running.items():
            _end_reading(stream)
            thread.join()

    def stop(self) -> None:
        """Make `serve` return; safe to call from a signal handler."""
        self._stopping.set()

    def _accept(self, door: Door) -> None:
        try:
            connection, _ = door.listener.accept()
            connection.setblocking(True)
            stranger = door.turns_away(connection)
        except BlockingIOError:
            return
        except OSError as error:
            # Out of descriptors, or the peer is gone already: neither may end the signer.
            log_event("signer.accept_failed", code=error.errno or 0)
            self._stopping.wait(_POLL_S)
            return
        self._start(door, connection, stranger=stranger)

    def _start(self, door: Door, connection: socket.socket, *, stranger: bool) -> None:
        with self._guard:
            # Whoever hangs up may call again before the thread of the old call has noticed.
            if not stranger and self._guard.wait_for(lambda: self._has_room(door), door.patience_s):
                thread = threading.Thread(target=self._talk, args=(door, connection), daemon=True)
                self._talks[thread] = (door, connection)
                thread.start()
                return
        code = "forbidden" if stranger else "busy"
        log_event("signer.connection_refused", code=code)
        with connection:
            connection.settimeout(1)
            # To a peer that expects TLS these bytes mean as much as a closed connection.
            _send(connection, Refused(code=code, text="the connection is not accepted"))

    def _talk(self, door: Door, connection: socket.socket) -> None:
        try:
            with self._enter(door, connection) as (stream, roles):
                if not roles:
                    self._turn_away(stream)
                while roles and not self._stopping.is_set() and self._talk_once(stream, roles):
                    pass
        except OSError as error:
            # A handshake that failed: whoever it was is not let in.
            log_event("signer.connection_refused", code=type(error).__name__)
        finally:
            with self._guard:
                del self._talks[threading.current_thread()]
                self._guard.notify()

    @contextmanager
    def _enter(self, door: Door, connection: socket.socket) -> Iterator[tuple[socket.socket, frozenset[str]]]:
        with connection:
            stream, roles = door.enter(connection, time.monotonic() + self._limits.request_s)
            with self._guard:
                self._talks[threading.current_thread()] = (door, stream)
            with stream:
                yield stream, roles

    @staticmethod
    def _turn_away(stream: socket.socket) -> None:
        log_event("signer.connection_refused", code="forbidden")
        stream.settimeout(1)
        _send(stream, Refused(code="forbidden", text="the connection is not accepted"))

    def _has_room(self, door: Door) -> bool:
        return sum(1 for entered, _ in self._talks.values() if entered is door) < door.connections

    def _talk_once(self, stream: socket.socket, roles: frozenset[str]) -> bool:
        """Receive and answer one request; False when the connection is over."""
        try:
            await_input(stream, self._limits.idle_s)
            body = receive_frame_before(stream, time.monotonic() + self._limits.request_s)
            request = load_request(body)
        except MalformedMessage as error:
            log_event("signer.malformed_message", code=error.code)
            _send(stream, Refused(code="malformed_message", text=f"not a message: {error.code}"))
            return False
        except (ConnectionEnded, OSError):
            return False
        response = self._answer_safely(roles, request)
        stream.settimeout(self._limits.request_s)
        return _send(stream, response) and not self._stopping.is_set()

    def _answer_safely(self, roles: frozenset[str], request: Request) -> Response:
        started = time.monotonic()
        code, where = "ok", ""
        try:
            response = self._answer(roles, request)
        except Refusal as refusal:
            code = refusal.code
            response = Refused(code=code, text=refusal.text)
        except KeyFault as fault:
            code, where = "key_fault", str(fault)
            response = Refused(code=code, text="the key is not what it must be; the signer's log says why")
        except HsmFault as fault:
            code, where = "hsm_fault", str(fault)
            response = Refused(code=code, text="the HSM failed; ask again with the same request")
        except Exception as defect:  # noqa: BLE001 - the process loop; a defect must not end the other connections
            # The process loop's last line: a defect answers with a code, and the log says where it is.
            code, where = "internal_fault", _place_of(defect)
            response = Refused(code=code, text="the signer has a defect; its log says where")
        elapsed_ms = int((time.monotonic() - started) * 1000)
        log_event("signer.answered", request=type(request).__name__, code=code, where=where, ms=elapsed_ms)
        return response


def _send(connection: socket.socket, response: Response) -> bool:
    try:
        send_frame(connection, dump(response))
    except (OSError, MalformedMessage):
        return False
    return True


def _end_reading(stream: socket.socket) -> None:
    try:
        end_reading(stream)
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.EBADF):
            raise


def _place_of(defect: Exception) -> str:
    """Return type and line of a defect without its text, which could carry values."""
    trace = defect.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(defect).__name__} {place}"
