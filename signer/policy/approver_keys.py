"""The keys of an approver as the policy spells them. Each key has one spelling, and only keys that are sound get in."""

import re
from typing import Any

from signer.points import is_p256_public_key, is_public_key
from signer.policy.reading import list_of, record_of, texts_of, wrong
from signer.protocol.approver_keys import ALGORITHMS, ApproverKey, Ed25519Key, P256Key, Passkey
from signer.protocol.webauthn import decode_base64url

_HEX = re.compile(r"(?:[0-9a-f]{2}){1,512}")
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)
_ORIGIN = re.compile(r"(https?)://([a-z0-9.-]{1,253})(?::([1-9][0-9]{0,4}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_CREDENTIAL_MAX = 1023
"""Longest credential id in bytes. Source: Web Authentication Level 2, section 4."""
_MODULUS_BITS = (2048, 4096)
_ORIGINS_MAX = 8


def parse_key(value: object, place: str) -> ApproverKey:
    """Return one key; raises StartupFault with what is wrong about it."""
    kind = value.get("type") if isinstance(value, dict) else None
    match kind:
        case "ed25519":
            record = record_of(value, {"type", "public_key"}, place)
            return Ed25519Key(public_key=_ed25519(record["public_key"], place))
        case "p256":
            record = record_of(value, {"type", "public_key"}, place)
            return P256Key(public_key=_p256(record["public_key"], place))
        case "webauthn":
            return _passkey(value, place)
        case _:
            raise wrong(f"{place}: type must be ed25519, p256 or webauthn")


def _passkey(value: object, place: str) -> Passkey:
    names = {"type", "algorithm", "public_key", "credential_id", "rp_id", "origins", "device_bound"}
    record = record_of(value, names, place)
    if record["algorithm"] not in ALGORITHMS:
        raise wrong(f"{place}: algorithm must be ES256, EdDSA or RS256")
    read = {"ES256": _p256, "EdDSA": _ed25519, "RS256": _modulus}[record["algorithm"]]
    if type(record["device_bound"]) is not bool:
        raise wrong(f"{place}: device_bound must be true or false")
    rp_id = record["rp_id"]
    if not isinstance(rp_id, str) or not _DOMAIN.fullmatch(rp_id):
        raise wrong(f"{place}: rp_id must be a domain in lower case")
    if len(list_of(record["origins"], place)) > _ORIGINS_MAX:
        raise wrong(f"{place}: at most {_ORIGINS_MAX} origins")

    def origin(value: object, place: str) -> str:
        return _origin(value, rp_id, place)

    return Passkey(
        algorithm=record["algorithm"],
        public_key=read(record["public_key"], place),
        credential_id=_credential_id(record["credential_id"], place),
        rp_id=rp_id,
        origins=texts_of(record["origins"], f"{place}: origins", origin),
        device_bound=record["device_bound"],
    )


def _ed25519(value: object, place: str) -> str:
    text, raw = _hex(value, place)
    if not is_public_key(raw):
        raise wrong(f"{place} must be Ed25519 public keys in hex")
    return text


def _p256(value: object, place: str) -> str:
    text, raw = _hex(value, place)
    if not is_p256_public_key(raw):
        raise wrong(f"{place} must be uncompressed points of P-256 in hex")
    return text


def _modulus(value: object, place: str) -> str:
    text, raw = _hex(value, place)
    modulus = int.from_bytes(raw, "big")
    if raw[0] == 0 or modulus % 2 == 0 or not _MODULUS_BITS[0] <= modulus.bit_length() <= _MODULUS_BITS[1]:
        raise wrong(f"{place} must be RSA moduli of 2048 to 4096 bits in hex")
    return text


def _hex(value: object, place: str) -> tuple[str, bytes]:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise wrong(f"{place} must be public keys in lower-case hex")
    return value, bytes.fromhex(value)


def _credential_id(value: object, place: str) -> str:
    problem = wrong(f"{place}: credential_id must be base64url without padding")
    if not isinstance(value, str):
        raise problem
    try:
        raw = decode_base64url(value)
    except ValueError as error:
        raise problem from error
    if not 1 <= len(raw) <= _CREDENTIAL_MAX:
        raise problem
    return value


def _origin(value: Any, rp_id: str, place: str) -> str:
    """One page's origin, which the credential's domain covers; without encryption only on the machine itself."""
    match = _ORIGIN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise wrong(f"{place} must be origins: scheme, host and no path")
    scheme, host, port = match.groups()
    if host != rp_id and not host.endswith(f".{rp_id}"):
        raise wrong(f"{place} must be within the rp_id")
    if port == _DEFAULT_PORTS[scheme] or (port is not None and int(port) >= 2**16):
        raise wrong(f"{place} must be spelled as browsers do")
    if scheme == "http" and host != "localhost":
        raise wrong(f"{place} must begin with https, except on localhost")
    return str(value)
