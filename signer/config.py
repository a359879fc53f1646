"""The signer's configuration: one TOML file, every field required (signer.example.toml shows and explains
it).

Secrets are not in it: it names the file or the file descriptor that holds the PIN.
"""

import ipaddress
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROLES = frozenset({"requester", "approver", "operator", "observer"})
SOCKET_MODES = {"0600": 0o600, "0660": 0o660}


class ConfigFault(Exception):
    """The configuration cannot be used. `str()` is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinFile:
    """The PIN is the content of a file that only the signer's user (or root) can read."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PinDescriptor:
    """The PIN is read from an inherited file descriptor, which is then closed."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PinCredential:
    """The PIN is a credential of the service manager: a file of this name in its directory of credentials."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HsmConfig:
    """Which token, behind which module."""

    module: Path
    module_sha256: str
    """Pinned hash of the module file in hex, or "" to pin none."""
    token: str
    """Token label."""
    pin: PinFile | PinDescriptor | PinCredential
    sessions: int
    """Pooled sessions; about the number of cores."""
    ceremony_keys: frozenset[bytes]
    """Keys that were not born inside and may serve all the same: public key, or fingerprint of a wrapping key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a peer may take."""

    connections: int
    """Open connections at once."""
    request_s: int
    """Seconds within which a request that has begun must be complete."""
    idle_s: int
    """Seconds that a connection may stay silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """A second way in, for peers on other machines: TLS 1.3 with certificates on both sides."""

    address: str
    """IP address to listen at."""
    port: int
    certificate: Path
    """PEM, the signer's own chain."""
    key: Path
    """PEM, readable by the signer's user only."""
    client_certificates: Path
    """PEM: the peers' certificates, or the authority that issued them. Nobody else gets as far as a handshake."""
    connections: int
    """Open connections at once, beside those of the Unix socket."""
    peers: dict[bytes, frozenset[str]]
    """SHA-256 of a certificate's public key (DER SubjectPublicKeyInfo) to roles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole file."""

    socket: Path
    socket_mode: int
    journal_dir: Path
    policy: Path
    hsm: HsmConfig
    limits: Limits
    peers: dict[int, frozenset[str]]
    """Operating-system user id to roles."""
    tls: TlsConfig | None
    """None: the Unix socket is the only way in."""


def load_config(path: Path) -> Config:
    """Read the file; raises ConfigFault with the name of what is missing or wrong."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigFault(f"the configuration {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigFault(f"the configuration {path} is not TOML: {error}") from error
    names = {"socket", "socket_mode", "journal_dir", "policy", "hsm", "limits", "peers"}
    _check_names(document, names | ({"tls"} & document.keys()), "the configuration")
    mode = _text(document, "socket_mode")
    if mode not in SOCKET_MODES:
        raise ConfigFault('socket_mode must be "0600" or "0660"')
    return Config(
        socket=_path(document, "socket"),
        socket_mode=SOCKET_MODES[mode],
        journal_dir=_path(document, "journal_dir"),
        policy=_path(document, "policy"),
        hsm=_parse_hsm(_table(document, "hsm")),
        limits=_parse_limits(_table(document, "limits")),
        peers=_parse_peers(document["peers"]),
        tls=_parse_tls(_table(document, "tls")) if "tls" in document else None,
    )


def _parse_hsm(table: dict[str, Any]) -> HsmConfig:
    pins = table.keys() & {"pin_file", "pin_fd", "pin_credential"}
    if len(pins) != 1:
        raise ConfigFault("hsm needs exactly one of pin_file, pin_fd and pin_credential")
    names = {"module", "module_sha256", "token", "sessions", "ceremony_keys"}
    _check_names(table, {*names, *pins}, "hsm")
    pinned = table["module_sha256"]
    if not isinstance(pinned, str) or (pinned and len(pinned) != 64):
        raise ConfigFault('module_sha256 must be 64 hex characters, or "" to pin nothing')
    return HsmConfig(
        module=_path(table, "module"),
        module_sha256=pinned.lower(),
        token=_text(table, "token"),
        pin=_parse_pin(table),
        sessions=_count(table, "sessions", 64),
        ceremony_keys=_hex_names(table["ceremony_keys"], "ceremony_keys"),
    )


def _parse_pin(table: dict[str, Any]) -> PinFile | PinDescriptor | PinCredential:
    if "pin_file" in table:
        return PinFile(path=_path(table, "pin_file"))
    if "pin_fd" in table:
        return PinDescriptor(number=_fd(table))
    name = _text(table, "pin_credential")
    if "/" in name or name.startswith("."):
        raise ConfigFault("pin_credential must be the name of a credential, not a path")
    return PinCredential(name=name)


def _hex_names(value: object, name: str) -> frozenset[bytes]:
    """Return the 32- or 65-byte values of a list of hex strings."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigFault(f"{name} must be a list of hex strings, [] for none")
    try:
        found = frozenset(bytes.fromhex(each) for each in value)
    except ValueError as error:
        raise ConfigFault(f"{name} must be a list of hex strings") from error
    if any(len(each) not in (32, 65) for each in found) or len(found) != len(value):
        raise ConfigFault(f"{name} holds public keys and fingerprints (64 or 130 hex characters), each once")
    return found


def _parse_limits(table: dict[str, Any]) -> Limits:
    _check_names(table, {"connections", "request_s", "idle_s"}, "limits")
    return Limits(
        connections=_count(table, "connections", 1024),
        request_s=_count(table, "request_s", 3600),
        idle_s=_count(table, "idle_s", 86_400),
    )


def _parse_tls(table: dict[str, Any]) -> TlsConfig:
    names = {"address", "port", "certificate", "key", "client_certificates", "connections", "peers"}
    _check_names(table, names, "tls")
    address = _text(table, "address")
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        raise ConfigFault("address of tls must be an IP address") from error
    return TlsConfig(
        address=address,
        port=_count(table, "port", 65_535),
        certificate=_path(table, "certificate"),
        key=_path(table, "key"),
        client_certificates=_path(table, "client_certificates"),
        connections=_count(table, "connections", 1024),
        peers=_parse_tls_peers(table["peers"]),
    )


def _parse_tls_peers(value: object) -> dict[bytes, frozenset[str]]:
    if not isinstance(value, list) or not value:
        raise ConfigFault("tls needs peers: the hash of a certificate's public key, with its roles")
    peers: dict[bytes, frozenset[str]] = {}
    for peer in value:
        if not isinstance(peer, dict):
            raise ConfigFault("each peer of tls must be a table")
        _check_names(peer, {"public_key_sha256", "roles"}, "a peer of tls")
        (name,) = _hex_names([peer["public_key_sha256"]], "public_key_sha256")
        if len(name) != 32 or name in peers:
            raise ConfigFault("public_key_sha256 must be 64 hex characters, named once")
        peers[name] = _roles(peer["roles"])
    return peers


def _roles(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not value or any(role not in ROLES for role in value):
        raise ConfigFault(f"roles of a peer must be among {', '.join(sorted(ROLES))}")
    return frozenset(value)


def _parse_peers(value: object) -> dict[int, frozenset[str]]:
    if not isinstance(value, list) or not value:
        raise ConfigFault("peers must name at least one user id with its roles")
    peers: dict[int, frozenset[str]] = {}
    for peer in value:
        if not isinstance(peer, dict):
            raise ConfigFault("each of peers must be a table")
        _check_names(peer, {"uid", "roles"}, "a peer")
        uid = peer["uid"]
        if type(uid) is not int or uid < 0 or uid in peers:
            raise ConfigFault("uid of a peer must be a user id, named once")
        peers[uid] = _roles(peer["roles"])
    return peers


def _check_names(table: dict[str, Any], names: set[str], place: str) -> None:
    missing, unknown = names - table.keys(), table.keys() - names
    if missing:
        raise ConfigFault(f"{place} lacks {', '.join(sorted(missing))}")
    if unknown:
        raise ConfigFault(f"{place} has unknown {', '.join(sorted(unknown))}")


def _table(table: dict[str, Any], name: str) -> dict[str, Any]:
    value = table[name]
    if not isinstance(value, dict):
        raise ConfigFault(f"{name} must be a table")
    return value


def _text(table: dict[str, Any], name: str) -> str:
    value = table[name]
    if not isinstance(value, str) or not value:
        raise ConfigFault(f"{name} must be a non-empty string")
    return value


def _path(table: dict[str, Any], name: str) -> Path:
    path = Path(_text(table, name))
    if not path.is_absolute():
        raise ConfigFault(f"{name} must be an absolute path")
    return path


def _fd(table: dict[str, Any]) -> int:
    value = table["pin_fd"]
    if type(value) is not int or value < 0:
        raise ConfigFault("pin_fd must be a file descriptor number")
    return value


def _count(table: dict[str, Any], name: str, most: int) -> int:
    value = table[name]
    if type(value) is not int or not 1 <= value <= most:
        raise ConfigFault(f"{name} must be an integer from 1 to {most}")
    return value
