"""The ways in: a Unix socket whose peers the kernel names, and, if configured, TLS whose peers their certificates name.

A door says who stands before it and with which roles; what they may ask is the server's matter.
"""

import hashlib
import select
import socket
import ssl
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signer.config import TlsConfig
from signer.connections import turn_away
from signer.log import log_event
from signer.refusal import StartupFault

_PART = 16_384

Welcome = Callable[[socket.socket, frozenset[str]], None]
"""Takes in a stream and its peer's roles, of which there may be none. Safe to call from any thread."""


class Door(Protocol):
    """One way in."""

    listener: socket.socket
    """Not blocking."""
    connections: int
    """Open connections at once."""
    patience_s: float
    """Seconds that somebody who has come in may wait for room."""

    def let_in(self, peer: socket.socket, welcome: Welcome) -> None:
        """Find out who the peer is, and pass it on once. Raises OSError when it is gone."""

    def close(self) -> None:
        """Let nobody in any more, and see out who is inside."""


class UnixDoor:
    """A Unix stream socket; peers are known by their user id."""

    patience_s = 1.0

    def __init__(self, path: Path, mode: int, connections: int, peers: dict[int, frozenset[str]]) -> None:
        """Bind the socket. Raises StartupFault when its place is taken or unusable."""
        self.connections = connections
        self._path = path
        self._peers = peers
        self.listener = _listen(path, mode)

    def let_in(self, peer: socket.socket, welcome: Welcome) -> None:
        """Pass the connection on with the roles of its user."""
        welcome(peer, self._peers.get(peer_uid(peer), frozenset()))

    def close(self) -> None:
        """Close and remove the socket."""
        self.listener.close()
        self._path.unlink(missing_ok=True)


class TlsDoor:
    """A TCP socket with TLS 1.3; peers are known by the hash of their certificate's public key, and by nothing else of it.

    A thread per peer shakes hands and then carries bytes between the peer and a plain stream, so that the server behind the
    door knows one kind of connection.
    """

    patience_s = 0.0

    def __init__(self, config: TlsConfig, request_s: int) -> None:
        """Bind the socket; a handshake, and a write to a peer, may take `request_s`. Raises StartupFault when unusable."""
        self.connections = config.connections
        self._peers = config.peers
        self._request_s = request_s
        self._context = _context(config)
        self._threads: set[threading.Thread] = set()
        self._guard = threading.Lock()
        family = socket.AF_INET6 if ":" in config.address else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind((config.address, config.port))
            self.listener.listen(64)
        except OSError as error:
            self.listener.close()
            raise StartupFault(
                f"the address {config.address} port {config.port} cannot be used: {error.strerror or error}"
            ) from error
        self.listener.setblocking(False)

    def let_in(self, peer: socket.socket, welcome: Welcome) -> None:
        """Shake hands in a thread of its own, which then carries the connection; turn away who finds the door full."""
        with self._guard:
            if len(self._threads) < self.connections:
                thread = threading.Thread(target=self._carry, args=(peer, welcome), daemon=True)
                self._threads.add(thread)
                thread.start()
                return
        turn_away(peer, "busy")

    def close(self) -> None:
        """Close the socket, and wait for the last answers to be carried out."""
        self.listener.close()
        with self._guard:
            threads = list(self._threads)
        for thread in threads:
            thread.join(self._request_s)

    def _carry(self, peer: socket.socket, welcome: Welcome) -> None:
        try:
            with peer, self._enter(peer, time.monotonic() + self._request_s) as stream:
                certificate = stream.getpeercert(binary_form=True)
                if certificate is None:
                    raise ssl.SSLError("no certificate")
                roles = self._peers.get(public_key_sha256(certificate), frozenset())
                ours, theirs = socket.socketpair()
                with ours:
                    welcome(theirs, roles)
                    _carry_both_ways(stream, ours, self._request_s)
        except OSError as error:
            # A handshake or a write that failed: whoever it was is not inside.
            log_event("signer.connection_refused", code=type(error).__name__)
        finally:
            with self._guard:
                self._threads.discard(threading.current_thread())

    def _enter(self, peer: socket.socket, deadline: float) -> ssl.SSLSocket:
        """Shake hands before the deadline, however slowly the peer sends; raises OSError, which ssl.SSLError is."""
        stream = self._context.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
        try:
            stream.setblocking(False)
            while not _shake(stream, deadline):
                pass
        except OSError:
            stream.close()
            raise
        return stream


def public_key_sha256(certificate: bytes) -> bytes:
    """Return the name of a DER certificate's key: SHA-256 of its SubjectPublicKeyInfo. Source: RFC 7469 s.2.4."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ssl.SSLError("unreadable certificate") from error
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def peer_uid(connection: socket.socket) -> int:
    """Return the user id of the process that connected, as the kernel vouches for it."""
    if sys.platform == "darwin":
        # struct xucred { u_int version; uid_t uid; ... }. Source: sys/ucred.h; SOL_LOCAL is 0.
        return int(struct.unpack_from("=II", connection.getsockopt(0, socket.LOCAL_PEERCRED, 76))[1])
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _context(config: TlsConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    # A peer's own certificate may stand in the file instead of an authority's.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # A ticket would let a peer come back without showing its certificate.
    context.num_tickets = 0
    try:
        if config.key.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise StartupFault(f"the key {config.key} must be readable by the signer's user only: chmod 600")
        context.load_cert_chain(config.certificate, config.key, password="")
        context.load_verify_locations(config.client_certificates)
    except ssl.SSLError as error:
        raise StartupFault(
            "the TLS certificate, its key (unencrypted PEM) or the client certificates cannot be used"
        ) from error
    except OSError as error:
        raise StartupFault(f"a file of tls cannot be read: {error.strerror}") from error
    return context


def _shake(stream: ssl.SSLSocket, deadline: float) -> bool:
    """Go one step of the handshake; True when it is done."""
    try:
        stream.do_handshake()
    except ssl.SSLWantReadError:
        _poll(stream, select.POLLIN, deadline - time.monotonic())
        return False
    except ssl.SSLWantWriteError:
        _poll(stream, select.POLLOUT, deadline - time.monotonic())
        return False
    return True


def _poll(stream: socket.socket, event: int, seconds: float) -> None:
    poll = select.poll()
    poll.register(stream, event)
    if seconds <= 0 or not poll.poll(seconds * 1000):
        raise TimeoutError


def _carry_both_ways(stream: ssl.SSLSocket, ours: socket.socket, write_s: int) -> None:
    """Carry bytes until either side ends; raises OSError, also when the peer does not take its answer within `write_s`."""
    stream.settimeout(write_s)
    ours.settimeout(write_s)
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    poll.register(ours, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if stream.fileno() in ready:
            part = stream.recv(_PART)
            # What is decrypted already does not wake a poll.
            while part and stream.pending():
                part += stream.recv(_PART)
            if not part:
                return
            ours.sendall(part)
        if ours.fileno() in ready:
            part = ours.recv(_PART)
            if not part:
                return
            stream.sendall(part)


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
    listener.setblocking(False)
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
