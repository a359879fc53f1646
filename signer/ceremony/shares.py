"""Shares of a secret: any k of n make it again, each sealed to one custodian's own X25519 key and never in clear on a disk.

Shamir's scheme over GF(2^128) is pycryptodome's; the seal is HPKE (RFC 9180), bound to everything the share's file says.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from signer.ceremony.fault import CeremonyFault

FORMAT = "custody-share-v1"
SECRET_SIZE = 32
SHARES_MAX = 16
_HALF = 16
_SEAL_TAG = b"custody-share-v1\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyName:
    """Which key the shares make."""

    kind: str
    """"wrapping" (AES-256) or "ed25519" (seed)."""
    key_id: str
    """CKA_ID, hex."""
    label: str
    check: str
    """What proves the key, hex: the wrapping key's fingerprint or the public key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One custodian's share, sealed."""

    key: KeyName
    index: int
    """From 1."""
    threshold: int
    of: int
    custodian: str
    custodian_key: bytes
    """X25519 public key, 32 bytes."""
    sealed: bytes


def split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """Return `count` shares of a 32-byte secret, the first with index 1; fewer than `threshold` say nothing about it."""
    if not 2 <= threshold <= count <= SHARES_MAX:
        raise CeremonyFault(f"shares are k of n with 2 <= k <= n <= {SHARES_MAX}")
    if len(secret) != SECRET_SIZE:
        raise CeremonyFault("the secret is not 32 bytes")
    halves = [Shamir.split(threshold, count, secret[at : at + _HALF], ssss=False) for at in (0, _HALF)]
    return [first + second for (_, first), (_, second) in zip(*halves, strict=True)]


def combine(shares: Sequence[tuple[int, bytes]]) -> bytes:
    """Return what these (index, share) make: the secret, if they are enough and right, and otherwise something else."""
    halves = [
        Shamir.combine([(index, share[at : at + _HALF]) for index, share in shares], ssss=False)
        for at in (0, _HALF)
    ]
    return bytes(halves[0] + halves[1])


def seal(
    key: KeyName,
    index: int,
    threshold: int,
    of: int,
    custodian: str,
    public_key: X25519PublicKey,
    share: bytes,
) -> Share:
    """Return the share, readable by this custodian only."""
    open_share = Share(
        key=key,
        index=index,
        threshold=threshold,
        of=of,
        custodian=custodian,
        custodian_key=public_key.public_bytes_raw(),
        sealed=b"",
    )
    sealed = _suite().encrypt(share, public_key, info=_context(open_share))
    return replace(open_share, sealed=sealed)


def open_seal(share: Share, private_key: X25519PrivateKey) -> bytes:
    """Return the 32 bytes of a share; raises CeremonyFault when the key is not the custodian's or the file was changed."""
    if private_key.public_key().public_bytes_raw() != share.custodian_key:
        raise CeremonyFault(f"the key is not that of the custodian {share.custodian}")
    try:
        opened = _suite().decrypt(share.sealed, private_key, info=_context(share))
    except (InvalidTag, ValueError) as error:
        raise CeremonyFault(f"the share of {share.custodian} does not open: its file was changed") from error
    if len(opened) != SECRET_SIZE:
        raise CeremonyFault(f"the share of {share.custodian} has the wrong length")
    return opened


def write_share(path: Path, share: Share) -> bytes:
    """Write the share to a new file; return the file's bytes. Raises CeremonyFault."""
    data = (
        json.dumps({**_header(share), "sealed": share.sealed.hex()}, indent=2, sort_keys=True).encode()
        + b"\n"
    )
    try:
        with path.open("xb") as stream:
            stream.write(data)
    except OSError as error:
        raise CeremonyFault(f"the share {path} cannot be written: {error.strerror}") from error
    return data


def read_share(path: Path) -> Share:
    """Return the share in a file; raises CeremonyFault."""
    fault = CeremonyFault(f"{path} is not a share")
    try:
        value = json.loads(path.read_bytes())
        if value["format"] != FORMAT:
            raise fault
        key = value["key"]
        share = Share(
            key=KeyName(kind=key["kind"], key_id=key["key_id"], label=key["label"], check=key["check"]),
            index=value["index"],
            threshold=value["threshold"],
            of=value["of"],
            custodian=value["custodian"],
            custodian_key=bytes.fromhex(value["custodian_key"]),
            sealed=bytes.fromhex(value["sealed"]),
        )
    except OSError as error:
        raise CeremonyFault(f"the share {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise fault from error
    numbers = (share.index, share.threshold, share.of)
    if any(type(number) is not int for number in numbers) or not 1 <= share.index <= share.of <= SHARES_MAX:
        raise fault
    return share


def check_set(shares: Sequence[Share]) -> Share:
    """Return the first of shares that belong together and are enough; raises CeremonyFault."""
    if not shares:
        raise CeremonyFault("no share was given")
    first = shares[0]
    if any((each.key, each.threshold, each.of) != (first.key, first.threshold, first.of) for each in shares):
        raise CeremonyFault("the shares are of different keys or ceremonies")
    if len({each.index for each in shares}) != len(shares):
        raise CeremonyFault("a share was given twice")
    if len(shares) < first.threshold:
        raise CeremonyFault(f"{first.threshold} shares are needed, and {len(shares)} were given")
    return first


def _suite() -> Suite:
    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def _context(share: Share) -> bytes:
    return _SEAL_TAG + json.dumps(_header(share), sort_keys=True, separators=(",", ":")).encode()


def _header(share: Share) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "key": {
            "kind": share.key.kind,
            "key_id": share.key.key_id,
            "label": share.key.label,
            "check": share.key.check,
        },
        "index": share.index,
        "threshold": share.threshold,
        "of": share.of,
        "custodian": share.custodian,
        "custodian_key": share.custodian_key.hex(),
    }
