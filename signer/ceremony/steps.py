"""What a ceremony does: make a key and its shares, make a key per token, or bring a key back from its shares."""

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from signer.ceremony.fault import CeremonyFault
from signer.ceremony.shares import (
    KeyName,
    Share,
    check_set,
    combine,
    open_seal,
    seal,
    split,
    write_share,
)
from signer.ceremony.tokens import CeremonyToken, check_free, generate_key, import_key, mix
from signer.ceremony.transcript import Transcript
from signer.hsm.wrapping import FINGERPRINT_TAG, FINGERPRINT_VALUE, WRAPPING_ID, WRAPPING_LABEL

_SYSTEM_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Who and what is present."""

    tokens: Sequence[CeremonyToken]
    module_sha256: str
    """Of the PKCS#11 module in use, hex."""
    witnesses: Mapping[str, Ed25519PublicKey]
    transcript: Transcript


def begin(room: Room, purpose: str) -> None:
    """Write the transcript's first line. Raises CeremonyFault when nobody watches."""
    if not room.witnesses:
        raise CeremonyFault("a ceremony needs a witness at least")
    room.transcript.write(
        "begun",
        purpose=purpose,
        module_sha256=room.module_sha256,
        tokens=[{"label": each.label, "serial": each.serial, "model": each.model} for each in room.tokens],
        witnesses=[
            {"name": name, "public_key": key.public_bytes_raw().hex()} for name, key in room.witnesses.items()
        ],
    )


def make_shared_key(
    room: Room,
    kind: str,
    label: str,
    custodians: Mapping[str, X25519PublicKey],
    threshold: int,
    folder: Path,
) -> KeyName:
    """Make a key, import it into every token, seal its shares into `folder`; return its name.

    The secret exists in this process only, and only while this runs. Raises CeremonyFault or HsmFault.
    """
    secret = mix(room.tokens, os.urandom(_SYSTEM_BYTES))
    key = name_key(kind, label, secret)
    for token in room.tokens:
        check_free(token, key)
    # Split first: what cannot be shared must not come into any token.
    parts = split(secret, threshold, len(custodians))
    sources = ["operating system", *(f"token {token.label}" for token in room.tokens)]
    room.transcript.write("key_made", **_shown(key), threshold=threshold, of=len(parts), randomness=sources)
    _import_everywhere(room, key, secret)
    for index, ((custodian, public_key), part) in enumerate(zip(custodians.items(), parts, strict=True), 1):
        share = seal(key, index, threshold, len(parts), custodian, public_key, part)
        file = folder / f"share-{index}-{custodian}.json"
        written = write_share(file, share)
        room.transcript.write(
            "share_sealed",
            custodian=custodian,
            custodian_key=share.custodian_key.hex(),
            index=index,
            file=file.name,
            sha256=hashlib.sha256(written).hexdigest(),
        )
    return key


def make_separate_keys(room: Room, label: str) -> list[KeyName]:
    """Let every token make an Ed25519 key of its own, for on-chain multisig: no backup, and none that could be stolen."""
    made = []
    for token in room.tokens:
        key_id = secrets.token_hex(16)
        public_key = generate_key(token, key_id, label)
        key = KeyName(kind="ed25519", key_id=key_id, label=label, check=public_key.hex())
        room.transcript.write("key_born", token=token.label, **_shown(key))
        made.append(key)
    return made


def restore(room: Room, shares: Sequence[tuple[Share, X25519PrivateKey]]) -> KeyName:
    """Make the key again from at least `threshold` shares and import it into every token. Raises CeremonyFault or HsmFault."""
    first = check_set([share for share, _ in shares])
    key = first.key
    for token in room.tokens:
        check_free(token, key)
    opened = [(share.index, open_seal(share, private_key)) for share, private_key in shares]
    secret = combine(opened)
    if name_key(key.kind, key.label, secret, key.key_id) != key:
        raise CeremonyFault("the shares do not make the key that they are said to make")
    room.transcript.write("key_restored", **_shown(key), custodians=[share.custodian for share, _ in shares])
    _import_everywhere(room, key, secret)
    return key


def name_key(kind: str, label: str, secret: bytes, key_id: str = "") -> KeyName:
    """Return the name of the key that 32 bytes make: what it is called and what proves it. Raises CeremonyFault."""
    if kind == "wrapping":
        wrapped = aes_key_wrap(secret, FINGERPRINT_VALUE)
        check = hashlib.sha256(FINGERPRINT_TAG + wrapped).hexdigest()
        return KeyName(kind=kind, key_id=WRAPPING_ID.hex(), label=WRAPPING_LABEL, check=check)
    if kind != "ed25519":
        raise CeremonyFault("the kind of a key is wrapping or ed25519")
    public_key = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    return KeyName(kind=kind, key_id=key_id or secrets.token_hex(16), label=label, check=public_key.hex())


def _import_everywhere(room: Room, key: KeyName, secret: bytes) -> None:
    for token in room.tokens:
        attributes = import_key(token, key, secret)
        room.transcript.write("imported", token=token.label, check=key.check, attributes=attributes)


def _shown(key: KeyName) -> dict[str, str]:
    return {"kind": key.kind, "key_id": key.key_id, "label": key.label, "check": key.check}
