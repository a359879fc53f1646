"""Run by a test as a process of its own: threads that sign, hash, anchor and lose sessions on one token.

Also checks what a key is: its profile, that nothing can be read or changed, that a foreign key is refused.
"""

import secrets
import sys
import threading
import time
from pathlib import Path
from typing import Any

import coincurve
import pkcs11
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pkcs11 import Attribute, KeyType, ObjectClass

from signer.hsm.keys import KeyStore
from signer.hsm.model import WrappedKey
from signer.hsm.module import find_token
from signer.hsm.objects import AnchorObject, MacKey
from signer.hsm.profile import BORN_INSIDE, EC_PARAMS, PRIVATE_PROFILE
from signer.hsm.sessions import SessionPool
from signer.hsm.wrapped import UNWRAPPED_MAX
from signer.refusal import HsmFault

SOAK_S = 4.0
THREADS = 6


def check_profile(pool: SessionPool, keys: KeyStore) -> None:
    """A key has the whole profile, its value cannot be read, its attributes cannot be changed, nor can it be copied."""
    key_id = secrets.token_bytes(16)
    public = keys.generate(key_id, "profile", "ed25519")
    if keys.generate(key_id, "profile", "ed25519") != public:
        raise SystemExit("a repeated generation made another key")
    with pool.slot() as slot:
        private = slot.session.get_key(ObjectClass.PRIVATE_KEY, id=key_id)
        for attribute, wanted in {**PRIVATE_PROFILE, **BORN_INSIDE}.items():
            if private[attribute] is not wanted:
                raise SystemExit(f"{attribute.name} is {private[attribute]}")
        for attempt in (
            lambda: private[Attribute.VALUE],
            lambda: private.__setitem__(Attribute.EXTRACTABLE, True),
            lambda: private.__setitem__(Attribute.DERIVE, True),
            lambda: private.copy({Attribute.EXTRACTABLE: True}),
            private.destroy,
        ):
            expect_refusal(attempt)


def expect_refusal(attempt: Any) -> None:
    try:
        attempt()
    except pkcs11.PKCS11Error:
        return
    raise SystemExit("the token allowed what it must refuse")


def check_foreign_key(pool: SessionPool, keys: KeyStore) -> None:
    """A key that came from outside is not used, whatever its id."""
    key_id = secrets.token_bytes(16)
    with pool.slot() as slot:
        slot.session.create_object(
            {
                Attribute.CLASS: ObjectClass.PRIVATE_KEY,
                Attribute.KEY_TYPE: KeyType.EC_EDWARDS,
                Attribute.EC_PARAMS: EC_PARAMS["ed25519"],
                Attribute.VALUE: secrets.token_bytes(32),
                Attribute.ID: key_id,
                Attribute.SIGN: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
                Attribute.TOKEN: True,
            }
        )
    for attempt in (keys.sign, lambda *_: keys.generate(key_id, "x", "ed25519")):
        try:
            attempt(key_id, "ed25519", bytes(32))
        except HsmFault:
            continue
        raise SystemExit("an imported key was used")


def check_length(keys: KeyStore, key_id: bytes) -> None:
    """Only 32 bytes are signed; SoftHSM itself would sign any length."""
    for size in (0, 31, 33, 64):
        try:
            keys.sign(key_id, "secp256k1", bytes(size))
        except HsmFault:
            continue
        raise SystemExit(f"{size} bytes were signed")


def soak(
    pool: SessionPool,
    keys: KeyStore,
    ed: tuple[bytes, bytes],
    secp: tuple[bytes, bytes],
    wrapped: list[WrappedKey],
) -> tuple[int, int]:
    """Return (calls, errors) of all threads together."""
    mac, anchor = MacKey(pool), AnchorObject(pool)
    end = time.monotonic() + SOAK_S
    counts, errors = [0] * THREADS, [0] * THREADS

    def work(number: int) -> None:
        while time.monotonic() < end:
            message = secrets.token_bytes(32)
            try:
                one_round(pool, keys, mac, message, ed, secp)
                keys.sign_wrapped(wrapped[message[0] % len(wrapped)], message)
                if number == 0:
                    move(anchor, message.hex())
            except (HsmFault, InvalidSignature, ValueError) as error:
                print(f"{type(error).__name__} {error} {error.__cause__!r}", file=sys.stderr)
                errors[number] += 1
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts), sum(errors)


def move(anchor: AnchorObject, text: str) -> None:
    anchor.write(0, text)
    if anchor.read(0) != text:
        raise ValueError


def one_round(
    pool: SessionPool,
    keys: KeyStore,
    mac: MacKey,
    message: bytes,
    ed: tuple[bytes, bytes],
    secp: tuple[bytes, bytes],
) -> None:
    signature = keys.sign(ed[0], "ed25519", message)
    Ed25519PublicKey.from_public_bytes(ed[1]).verify(signature, message)
    compact = keys.sign(secp[0], "secp256k1", message)
    found = [
        coincurve.PublicKey.from_signature_and_message(compact + bytes([v]), message, hasher=None).format(
            False
        )
        for v in (0, 1)
    ]
    if secp[1] not in found or mac(message) != mac(message):
        raise ValueError
    # A failing call must cost its session and nothing else.
    try:
        with pool.slot() as slot, pool.objects:
            slot.session.get_key(ObjectClass.PRIVATE_KEY, id=b"nothing here")
    except HsmFault:
        return
    raise ValueError


def main(module: str, pin: str) -> None:
    pool = SessionPool(find_token(Path(module), "", "custody"), pin, 4)
    keys = KeyStore(pool)
    check_profile(pool, keys)
    check_foreign_key(pool, keys)
    ed_id, secp_id = secrets.token_bytes(16), secrets.token_bytes(16)
    ed = (ed_id, keys.generate(ed_id, "soak", "ed25519").public_key)
    secp = (secp_id, keys.generate(secp_id, "soak", "secp256k1").public_key)
    check_length(keys, secp_id)
    # More than a session keeps unwrapped, so that some are always thrown out.
    wrapped = [keys.generate_wrapped() for _ in range(UNWRAPPED_MAX + 16)]
    calls, errors = soak(pool, keys, ed, secp, wrapped)
    print(f"{calls} rounds, {errors} errors")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
