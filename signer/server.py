"""The Unix socket: who may ask, how much and how long; one thread per connection; every answer is a message."""

import errno
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from signer.config import Config
from signer.decide import Decider
from signer.log import log_event
from signer.protocol.checkpoint import VAULT as CHECKPOINTS
from signer.protocol.governance import is_governance
from signer.protocol.messages import (
    ChangeKey,
    ChangePolicy,
    CreateKey,
    Explain,
    GetPolicy,
    GetPolicyDocument,
    Health,
    ListKeys,
    PublicKey,
    Refused,
    Request,
    Response,
    Sign,
    SignCheckpoint,
    Veto,
    dump,
    load_request,
)
from signer.protocol.wire import ConnectionEnded, MalformedMessage, receive_frame_before, send_frame
from signer.refusal import HsmFault, Refusal, StartupFault

_POLL_S = 0.5
_PATIENCE_S = 1
_REQUESTER = frozenset({"requester"})
_OPERATOR = frozenset({"operator"})
_ANY = frozenset({"requester", "operator", "observer"})


def answer(decider: Decider, roles: frozenset[str], request: Request) -> Response:
    """Return the answer to a request by a peer with these roles; raises Refusal or HsmFault."""
    match request:
        case Sign():
            _demand(roles, _REQUESTER)
            return decider.sign(request)
        case SignCheckpoint():
            _demand(roles, _REQUESTER)
            return decider.sign_checkpoint(request)
        case Veto():
            _demand(roles, _REQUESTER | _OPERATOR if is_governance(request.intent) else _REQUESTER)
            return decider.veto(request)
        case CreateKey():
            if request.vault == CHECKPOINTS and not roles & _OPERATOR:
                _demand(roles, _REQUESTER)
                return decider.create_first_checkpoint_key(request)
            _demand(roles, _OPERATOR)
            return decider.create_key(request)
        case ChangeKey():
            _demand(roles, _OPERATOR)
            return decider.change_key(request)
        case ChangePolicy():
            _demand(roles, _OPERATOR)
            return decider.change_policy(request)
        case _:
            _demand(roles, _ANY)
            return _show(decider, request)


def _show(
    decider: Decider, request: Explain | PublicKey | ListKeys | GetPolicy | GetPolicyDocument | Health
) -> Response:
    """Answer what changes nothing."""
    match request:
        case Explain():
            return decider.explain(request)
        case PublicKey():
            return decider.public_key(request.key_id)
        case ListKeys():
            return decider.list_keys(request.org)
        case GetPolicy():
            return decider.show_policy()
        case GetPolicyDocument():
            return decider.policy_document(request)
        case Health():
            return decider.health()
        case _:
            assert_never(request)


def _demand(roles: frozenset[str], any_of: frozenset[str]) -> None:
    if not roles & any_of:
        raise Refusal("forbidden", "the peer's role does not cover this request")


class Server:
    """Accepts connections until told to stop, then lets running requests finish."""

    def __init__(self, config: Config, answer: Callable[[frozenset[str], Request], Response]) -> None:
        """Bind the socket. Raises StartupFault when its place is taken or unusable."""
        self._config = config
        self._answer = answer
        self._stopping = threading.Event()
        self._guard = threading.Condition()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._listener = _listen(config.socket, config.socket_mode)

    def serve(self) -> None:
        """Accept until `stop`; returns after the last running request is answered."""
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                # Out of descriptors, or the peer is gone already: neither may end the signer.
                log_event("signer.accept_failed", code=error.errno or 0)
                self._stopping.wait(_POLL_S)
                continue
            self._start(connection)
        self._listener.close()
        self._config.socket.unlink(missing_ok=True)
        with self._guard:
            running = dict(self._connections)
        for connection, thread in running.items():
            _end_reading(connection)
            thread.join()

    def stop(self) -> None:
        """Make `serve` return; safe to call from a signal handler."""
        self._stopping.set()

    def _start(self, connection: socket.socket) -> None:
        roles = self._config.peers.get(peer_uid(connection), frozenset())
        with self._guard:
            # Whoever hangs up may call again before the thread of the old call has noticed.
            if len(roles) > 0 and self._guard.wait_for(self._has_room, _PATIENCE_S):
                thread = threading.Thread(target=self._talk, args=(connection, roles), daemon=True)
                self._connections[connection] = thread
                thread.start()
                return
        code = "busy" if roles else "forbidden"
        log_event("signer.connection_refused", code=code)
        with connection:
            connection.settimeout(1)
            _send(connection, Refused(code=code, text="the connection is not accepted"))

    def _talk(self, connection: socket.socket, roles: frozenset[str]) -> None:
        try:
            with connection:
                while self._talk_once(connection, roles):
                    pass
        finally:
            with self._guard:
                del self._connections[connection]
                self._guard.notify()

    def _has_room(self) -> bool:
        return len(self._connections) < self._config.limits.connections

    def _talk_once(self, connection: socket.socket, roles: frozenset[str]) -> bool:
        """Receive and answer one request; False when the connection is over."""
        try:
            connection.settimeout(self._config.limits.idle_s)
            if not connection.recv(1, socket.MSG_PEEK):
                return False
            body = receive_frame_before(connection, time.monotonic() + self._config.limits.request_s)
            request = load_request(body)
        except MalformedMessage as error:
            log_event("signer.malformed_message", code=error.code)
            _send(connection, Refused(code="malformed_message", text=f"not a message: {error.code}"))
            return False
        except (ConnectionEnded, OSError):
            return False
        response = self._answer_safely(roles, request)
        connection.settimeout(self._config.limits.request_s)
        return _send(connection, response) and not self._stopping.is_set()

    def _answer_safely(self, roles: frozenset[str], request: Request) -> Response:
        started = time.monotonic()
        code, where = "ok", ""
        try:
            response = self._answer(roles, request)
        except Refusal as refusal:
            code = refusal.code
            response = Refused(code=code, text=refusal.text)
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


def _end_reading(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RD)
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


def peer_uid(connection: socket.socket) -> int:
    """Return the user id of the process that connected, as the kernel vouches for it."""
    if sys.platform == "darwin":
        # struct xucred { u_int version; uid_t uid; ... }. Source: sys/ucred.h; SOL_LOCAL is 0.
        return int(struct.unpack_from("=II", connection.getsockopt(0, socket.LOCAL_PEERCRED, 76))[1])
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _listen(path: Path, mode: int) -> socket.socket:
    _clear_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(mode)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise StartupFault(f"the socket {path} cannot be created: {error.strerror or error}") from error
    listener.settimeout(_POLL_S)
    return listener


def _clear_stale(path: Path) -> None:
    """Remove the socket of a signer that was killed; raises StartupFault when somebody answers there."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartupFault(f"{path} is in the way of the socket and is not one")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        if probe.connect_ex(str(path)) == 0:
            raise StartupFault(f"another signer answers at {path}")
    path.unlink(missing_ok=True)
