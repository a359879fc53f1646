"""The tokens of a ceremony: opened with their PINs, asked for randomness, and given the key."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pkcs11 import Attribute, ObjectClass

from signer.ceremony.fault import CeremonyFault
from signer.ceremony.shares import SECRET_SIZE, KeyName
from signer.config import PinDescriptor, PinFile
from signer.hsm.keys import KeyStore
from signer.hsm.module import find_tokens
from signer.hsm.profile import BORN_INSIDE, EC_PARAMS, KEY_TYPE, PRIVATE_PROFILE
from signer.hsm.sessions import SessionPool
from signer.hsm.wrapping import SEARCH, find_wrapping_key, import_wrapping_key
from signer.process import read_pin

_MIX_TAG = b"custody-ceremony-key-v1\x00"
_SHOWN = (Attribute.SENSITIVE, Attribute.EXTRACTABLE, *BORN_INSIDE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CeremonyToken:
    """One token that takes part."""

    label: str
    serial: str
    model: str
    pool: SessionPool


def open_tokens(
    module: Path, module_sha256: str, sources: Sequence[tuple[str, PinFile | PinDescriptor]]
) -> list[CeremonyToken]:
    """Log into each token (label and where its PIN is), once. Raises StartupFault."""
    found = find_tokens(module, module_sha256, [label for label, _ in sources])
    return [
        CeremonyToken(
            label=label,
            serial=_text(token.bound.serial),
            model=_text(token.bound.model),
            pool=SessionPool(token, read_pin(pin), 1),
        )
        for (label, pin), token in zip(sources, found, strict=True)
    ]


def mix(tokens: Sequence[CeremonyToken], system: bytes) -> bytes:
    """Return 32 bytes that are secret if the system's randomness or that of any one token is."""
    drawn = [system]
    for token in tokens:
        with token.pool.slot() as slot:
            drawn.append(bytes(slot.session.generate_random(8 * SECRET_SIZE)))
    return HKDF(algorithm=SHA256(), length=SECRET_SIZE, salt=None, info=_MIX_TAG).derive(b"".join(drawn))


def check_free(token: CeremonyToken, key: KeyName) -> None:
    """Raise CeremonyFault when the token has a key in this place already."""
    search = SEARCH if key.kind == "wrapping" else {Attribute.ID: bytes.fromhex(key.key_id)}
    with token.pool.slot() as slot, token.pool.objects:
        if list(slot.session.get_objects(search)):
            raise CeremonyFault(f"the token {token.label} has such a key already")


def import_key(token: CeremonyToken, key: KeyName, secret: bytes) -> dict[str, bool]:
    """Put the key into the token and see that it is there as it must be; return the attributes that tell its origin.

    Raises HsmFault, also when the token made another key of it.
    """
    check = bytes.fromhex(key.check)
    with token.pool.slot() as slot, token.pool.objects:
        if key.kind == "wrapping":
            import_wrapping_key(slot.session, secret)
            found = find_wrapping_key(slot.session, frozenset({check}))
            if found is None:
                raise CeremonyFault(f"the token {token.label} does not show the key that it was given")
            return _attributes(found[0])
        private = _import_seed(slot.session, key, secret)
        shown = _attributes(private)
    # Looks the key up anew, holds it against the whole profile, and has it sign.
    if (
        KeyStore(token.pool, frozenset({check})).inspect(bytes.fromhex(key.key_id), "ed25519").public_key
        != check
    ):
        raise CeremonyFault(f"the token {token.label} made another key of the seed")
    return shown


def generate_key(token: CeremonyToken, key_id: str, label: str) -> bytes:
    """Let the token make an Ed25519 key of its own, which cannot be backed up; return its public key. Raises HsmFault."""
    return KeyStore(token.pool).generate(bytes.fromhex(key_id), label, "ed25519").public_key


def _import_seed(session: Any, key: KeyName, seed: bytes) -> Any:
    common = {
        Attribute.KEY_TYPE: KEY_TYPE["ed25519"],
        Attribute.EC_PARAMS: EC_PARAMS["ed25519"],
        Attribute.ID: bytes.fromhex(key.key_id),
        Attribute.LABEL: key.label,
    }
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    session.create_object(
        {
            **common,
            Attribute.CLASS: ObjectClass.PUBLIC_KEY,
            Attribute.TOKEN: True,
            Attribute.MODIFIABLE: False,
            Attribute.EC_POINT: bytes([0x04, len(public)]) + public,
        }
    )
    return session.create_object(
        {**common, **PRIVATE_PROFILE, Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.VALUE: seed}
    )


def _attributes(handle: Any) -> dict[str, bool]:
    return {attribute.name: handle[attribute] for attribute in _SHOWN}


def _text(value: Any) -> str:
    return value.decode("utf-8", errors="replace").strip() if isinstance(value, bytes) else str(value).strip()
