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
import time
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signer.config import TlsConfig
from signer.refusal import StartupFault


class Door(Protocol):
    """One way in."""

    listener: socket.socket
    """Not blocking."""
    connections: int
    """Open connections at once."""
    patience_s: float
    """Seconds that a caller may wait for room, during which nobody else is let in anywhere."""

    def turns_away(self, connection: socket.socket) -> bool:
        """Tell whether the peer is known, before anything is read, to have no role at all."""

    def enter(self, connection: socket.socket, deadline: float) -> tuple[socket.socket, frozenset[str]]:
        """Return the stream to talk over and the peer's roles; raises OSError. Deadline: time.monotonic."""

    def close(self) -> None:
        """Let nobody in any more."""


class UnixDoor:
    """A Unix stream socket; peers are known by their user id."""

    patience_s = 1.0

    def __init__(self, path: Path, mode: int, connections: int, peers: dict[int, frozenset[str]]) -> None:
        """Bind the socket. Raises StartupFault when its place is taken or unusable."""
        self.connections = connections
        self._path = path
        self._peers = peers
        self.listener = _listen(path, mode)

    def turns_away(self, connection: socket.socket) -> bool:
        """Tell whether the peer's user has no role."""
        return not self._roles(connection)

    def enter(self, connection: socket.socket, deadline: float) -> tuple[socket.socket, frozenset[str]]:  # noqa: ARG002 - Door
        """Return the connection itself and the roles of its user."""
        return connection, self._roles(connection)

    def close(self) -> None:
        """Close and remove the socket."""
        self.listener.close()
        self._path.unlink(missing_ok=True)

    def _roles(self, connection: socket.socket) -> frozenset[str]:
        return self._peers.get(peer_uid(connection), frozenset())


class TlsDoor:
    """A TCP socket with TLS 1.3; peers are known by the hash of their certificate's public key, and by nothing else of it."""

    # Strangers can fill this door; they must not keep the other one waiting.
    patience_s = 0.0

    def __init__(self, config: TlsConfig) -> None:
        """Bind the socket. Raises StartupFault when it or a file is unusable."""
        self.connections = config.connections
        self._peers = config.peers
        self._context = _context(config)
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

    def turns_away(self, connection: socket.socket) -> bool:  # noqa: ARG002 - Door
        """Nobody is known before the handshake."""
        return False

    def enter(self, connection: socket.socket, deadline: float) -> tuple[socket.socket, frozenset[str]]:
        """Shake hands before the deadline, however slowly the peer sends; raises OSError, which ssl.SSLError is."""
        stream = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        try:
            stream.setblocking(False)
            while not _shake(stream, deadline):
                pass
            certificate = stream.getpeercert(binary_form=True)
            if certificate is None:
                raise ssl.SSLError("no certificate")
            return stream, self._peers.get(public_key_sha256(certificate), frozenset())
        except OSError:
            stream.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self.listener.close()


def public_key_sha256(certificate: bytes) -> bytes:
    """Return the name of a DER certificate's key: SHA-256 of its SubjectPublicKeyInfo. Source: RFC 7469 s.2.4."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ssl.SSLError("unreadable certificate") from error
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def await_input(stream: socket.socket, seconds: float) -> None:
    """Return when there is something to read, or the peer has hung up; raises TimeoutError."""
    if isinstance(stream, ssl.SSLSocket) and stream.pending():
        return
    _poll(stream, select.POLLIN, seconds)


def end_reading(stream: socket.socket) -> None:
    """Let a thread that waits for this peer's next request see the end of it; its answer can still be sent."""
    # The method of an SSLSocket would take the encryption off under the thread's hands.
    socket.socket.shutdown(stream, socket.SHUT_RD)


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
