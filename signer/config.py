"""The signer's configuration: one TOML file, every field required (signer.example.toml shows and explains
it).

Secrets are not in it: it names the file or the file descriptor that holds the PIN.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROLES = frozenset({"requester", "operator", "observer"})
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
class HsmConfig:
    """Which token, behind which module."""

    module: Path
    module_sha256: str
    """Pinned hash of the module file in hex, or "" to pin none."""
    token: str
    """Token label."""
    pin: PinFile | PinDescriptor
    sessions: int
    """Pooled sessions; about the number of cores."""


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


def load_config(path: Path) -> Config:
    """Read the file; raises ConfigFault with the name of what is missing or wrong."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigFault(f"the configuration {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigFault(f"the configuration {path} is not TOML: {error}") from error
    names = {"socket", "socket_mode", "journal_dir", "policy", "hsm", "limits", "peers"}
    _check_names(document, names, "the configuration")
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
    )


def _parse_hsm(table: dict[str, Any]) -> HsmConfig:
    pins = table.keys() & {"pin_file", "pin_fd"}
    if len(pins) != 1:
        raise ConfigFault("hsm needs exactly one of pin_file and pin_fd")
    _check_names(table, {"module", "module_sha256", "token", "sessions", *pins}, "hsm")
    pin = PinFile(path=_path(table, "pin_file")) if "pin_file" in pins else PinDescriptor(number=_fd(table))
    pinned = table["module_sha256"]
    if not isinstance(pinned, str) or (pinned and len(pinned) != 64):
        raise ConfigFault('module_sha256 must be 64 hex characters, or "" to pin nothing')
    return HsmConfig(
        module=_path(table, "module"),
        module_sha256=pinned.lower(),
        token=_text(table, "token"),
        pin=pin,
        sessions=_count(table, "sessions", 64),
    )


def _parse_limits(table: dict[str, Any]) -> Limits:
    _check_names(table, {"connections", "request_s", "idle_s"}, "limits")
    return Limits(
        connections=_count(table, "connections", 1024),
        request_s=_count(table, "request_s", 3600),
        idle_s=_count(table, "idle_s", 86_400),
    )


def _parse_peers(value: object) -> dict[int, frozenset[str]]:
    if not isinstance(value, list) or not value:
        raise ConfigFault("peers must name at least one user id with its roles")
    peers: dict[int, frozenset[str]] = {}
    for peer in value:
        if not isinstance(peer, dict):
            raise ConfigFault("each of peers must be a table")
        _check_names(peer, {"uid", "roles"}, "a peer")
        uid, roles = peer["uid"], peer["roles"]
        if type(uid) is not int or uid < 0 or uid in peers:
            raise ConfigFault("uid of a peer must be a user id, named once")
        if not isinstance(roles, list) or not roles or any(role not in ROLES for role in roles):
            raise ConfigFault(f"roles of a peer must be among {', '.join(sorted(ROLES))}")
        peers[uid] = frozenset(roles)
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
