"""Keys that are not what a signing key must be, put into a real token by somebody with its PIN: none of them signs."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

from signer.hsm import wrapped, wrapping
from signer.hsm.keys import KeyStore
from signer.hsm.profile import EC_PARAMS, GENERATION, KEY_TYPE, PRIVATE_PROFILE, is_born_inside
from signer.hsm.sessions import SessionPool
from signer.refusal import HsmFault, KeyFault
from tests.softhsm import pool_on

pytestmark = pytest.mark.stack
MESSAGE = bytes(32)


@pytest.fixture(scope="module")
def pool() -> SessionPool:
    return pool_on("profile")


@pytest.fixture(scope="module")
def keys(pool: SessionPool) -> KeyStore:
    return KeyStore(pool)


def generate(pool: SessionPool, key_id: bytes, curve: str = "secp256k1", **changes: bool) -> None:
    """A key pair made in the token, its private profile changed."""
    profile = {**PRIVATE_PROFILE, **{Attribute[name]: value for name, value in changes.items()}}
    with pool.slot() as slot, pool.objects:
        parameters = slot.session.create_domain_parameters(
            KEY_TYPE[curve], {Attribute.EC_PARAMS: EC_PARAMS[curve]}, local=True
        )
        parameters.generate_keypair(
            id=key_id,
            label="made by hand",
            store=True,
            mechanism=GENERATION[curve],
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
            private_template=profile,
        )


def import_seed(pool: SessionPool, key_id: bytes, seed: bytes) -> bytes:
    """An Ed25519 key from outside with the whole profile; returns its public key."""
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    common = {Attribute.KEY_TYPE: KeyType.EC_EDWARDS, Attribute.EC_PARAMS: EC_PARAMS["ed25519"]}
    with pool.slot() as slot, pool.objects:
        slot.session.create_object(
            {
                **common,
                **PRIVATE_PROFILE,
                Attribute.CLASS: ObjectClass.PRIVATE_KEY,
                Attribute.ID: key_id,
                Attribute.VALUE: seed,
            }
        )
        slot.session.create_object(
            {
                **common,
                Attribute.CLASS: ObjectClass.PUBLIC_KEY,
                Attribute.ID: key_id,
                Attribute.TOKEN: True,
                Attribute.EC_POINT: b"\x04\x20" + public,
            }
        )
    return public


def refusal_of(attempt: Callable[[], object]) -> str:
    with pytest.raises(KeyFault) as caught:
        attempt()
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXTRACTABLE", True),
        ("SENSITIVE", False),
        ("MODIFIABLE", True),
        ("COPYABLE", True),
        ("DESTROYABLE", True),
        ("DERIVE", True),
        ("DECRYPT", True),
        ("UNWRAP", True),
        ("SIGN_RECOVER", True),
    ],
)
def test_a_key_with_a_wrong_attribute_neither_registers_nor_signs(
    pool: SessionPool, keys: KeyStore, name: str, value: bool
) -> None:
    key_id = secrets.token_bytes(16)
    generate(pool, key_id, **{name: value})
    assert name in refusal_of(lambda: keys.generate(key_id, "x", "secp256k1"))
    assert name in refusal_of(lambda: keys.sign(key_id, "secp256k1", MESSAGE))


def test_a_copy_that_gave_up_being_extractable_is_refused(pool: SessionPool, keys: KeyStore) -> None:
    """The token never forgets that a key could leave, nor lets a copy become uncopyable."""
    key_id, original_id = secrets.token_bytes(16), secrets.token_bytes(16)
    generate(pool, original_id, EXTRACTABLE=True, COPYABLE=True, MODIFIABLE=True)
    with pool.slot() as slot, pool.objects:
        original = slot.session.get_key(ObjectClass.PRIVATE_KEY, id=original_id)
        copied = original.copy(
            {Attribute.ID: key_id, Attribute.EXTRACTABLE: False, Attribute.MODIFIABLE: False}
        )
        assert not is_born_inside(copied, GENERATION["secp256k1"])
    assert "COPYABLE" in refusal_of(lambda: keys.sign(key_id, "secp256k1", MESSAGE))


def test_an_imported_key_is_refused_unless_the_configuration_names_it(
    pool: SessionPool, keys: KeyStore
) -> None:
    key_id, seed = secrets.token_bytes(16), secrets.token_bytes(32)
    public = import_seed(pool, key_id, seed)
    assert "born inside" in refusal_of(lambda: keys.sign(key_id, "ed25519", MESSAGE))
    assert "born inside" in refusal_of(lambda: keys.inspect(key_id, "ed25519"))
    allowing = KeyStore(pool, frozenset({public}))
    found = allowing.inspect(key_id, "ed25519")
    assert (found.public_key, found.born_inside, found.mechanism) == (public, False, "")
    assert allowing.sign(key_id, "ed25519", MESSAGE) == Ed25519PrivateKey.from_private_bytes(seed).sign(
        MESSAGE
    )
    # Named or not, it is never what a request for a new key gets.
    assert "place" in refusal_of(lambda: allowing.generate(key_id, "x", "ed25519"))


def test_an_imported_key_is_not_saved_by_the_name_of_another(pool: SessionPool) -> None:
    key_id = secrets.token_bytes(16)
    import_seed(pool, key_id, secrets.token_bytes(32))
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert "born inside" in refusal_of(
        lambda: KeyStore(pool, frozenset({other})).sign(key_id, "ed25519", MESSAGE)
    )


def test_two_keys_under_one_id_are_refused(pool: SessionPool, keys: KeyStore) -> None:
    key_id = secrets.token_bytes(16)
    generate(pool, key_id)
    generate(pool, key_id)
    assert "more than one" in refusal_of(lambda: keys.generate(key_id, "x", "secp256k1"))
    assert "more than one" in refusal_of(lambda: keys.sign(key_id, "secp256k1", MESSAGE))


def test_a_public_half_of_another_key_is_refused(pool: SessionPool, keys: KeyStore) -> None:
    """Whoever could register a foreign public key would have money sent to an address of theirs."""
    key_id, seed = secrets.token_bytes(16), secrets.token_bytes(32)
    public = import_seed(pool, key_id, seed)
    with pool.slot() as slot, pool.objects:
        slot.session.get_key(ObjectClass.PUBLIC_KEY, id=key_id).destroy()
        foreign = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        slot.session.create_object(
            {
                Attribute.CLASS: ObjectClass.PUBLIC_KEY,
                Attribute.KEY_TYPE: KeyType.EC_EDWARDS,
                Attribute.EC_PARAMS: EC_PARAMS["ed25519"],
                Attribute.ID: key_id,
                Attribute.TOKEN: True,
                Attribute.EC_POINT: b"\x04\x20" + foreign,
            }
        )
    allowing = KeyStore(pool, frozenset({public, foreign}))
    assert "expected key" in refusal_of(lambda: allowing.inspect(key_id, "ed25519"))
    assert keys is not allowing


def test_a_key_on_another_curve_is_refused(pool: SessionPool, keys: KeyStore) -> None:
    key_id = secrets.token_bytes(16)
    generate(pool, key_id, "ed25519")
    assert "type" in refusal_of(lambda: keys.sign(key_id, "secp256k1", MESSAGE))
    p256 = secrets.token_bytes(16)
    with pool.slot() as slot, pool.objects:
        slot.session.create_domain_parameters(
            KeyType.EC, {Attribute.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107")}, local=True
        ).generate_keypair(
            id=p256, label="p256", store=True, mechanism=Mechanism.EC_KEY_PAIR_GEN,
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY, private_template=dict(PRIVATE_PROFILE),
        )  # fmt: skip
    assert "curve" in refusal_of(lambda: keys.sign(p256, "secp256k1", MESSAGE))


def test_an_error_leaves_no_session_busy(pool: SessionPool, keys: KeyStore) -> None:
    """A failed call can leave a session in an operation for ever; the pool forgets it."""
    key_id = secrets.token_bytes(16)
    keys.generate(key_id, "x", "ed25519")
    for _ in range(6):
        with pytest.raises(HsmFault):
            sign_by_the_wrong_mechanism(pool, key_id)
        assert len(keys.sign(key_id, "ed25519", MESSAGE)) == 64


def test_a_known_key_signs_while_another_is_being_made(pool: SessionPool, keys: KeyStore) -> None:
    key_id = secrets.token_bytes(16)
    keys.generate(key_id, "x", "ed25519")
    keys.sign(key_id, "ed25519", MESSAGE)
    with pool.objects, ThreadPoolExecutor(1) as other:
        signature = other.submit(keys.sign, key_id, "ed25519", MESSAGE).result(timeout=30)
    assert len(signature) == 64


def sign_by_the_wrong_mechanism(pool: SessionPool, key_id: bytes) -> None:
    with pool.slot() as slot:
        slot.session.get_key(ObjectClass.PRIVATE_KEY, id=key_id).sign(MESSAGE, mechanism=Mechanism.ECDSA)


def test_what_is_unwrapped_cannot_leave_even_for_somebody_with_the_pin(
    pool: SessionPool, keys: KeyStore
) -> None:
    key = keys.generate_wrapped()
    with pool.slot() as slot, pool.objects:
        handle = slot.session.get_key(ObjectClass.SECRET_KEY, id=wrapping.WRAPPING_ID)
        for changes in ({Attribute.EXTRACTABLE: True}, {Attribute.SENSITIVE: False}):
            with pytest.raises(pkcs11.TemplateInconsistent):
                wrapping.unwrap(handle, key.blob, {**wrapping.UNWRAPPED_PROFILE, **changes})
        for attempt in (lambda: handle[Attribute.VALUE], lambda: handle.copy({Attribute.EXTRACTABLE: True})):
            with pytest.raises(pkcs11.PKCS11Error):
                attempt()


def test_no_session_keeps_more_unwrapped_keys_than_it_may(pool: SessionPool, keys: KeyStore) -> None:
    made = [keys.generate_wrapped() for _ in range(wrapped.UNWRAPPED_MAX + 3)]
    for key in [*made, *made]:
        keys.sign_wrapped(key, MESSAGE)
    with pool.slot() as slot, pool.objects:
        assert len(slot.unwrapped) == wrapped.UNWRAPPED_MAX
        alive = list(
            slot.session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.TOKEN: False})
        )
        assert len(alive) <= 2 * wrapped.UNWRAPPED_MAX
    assert keys.sign_wrapped(made[0], MESSAGE)


def test_a_wrapped_key_of_another_wrapping_key_is_refused(keys: KeyStore) -> None:
    key = keys.generate_wrapped()
    assert "another wrapping key" in refusal_of(
        lambda: keys.sign_wrapped(replace(key, wrapping_key=bytes(32), blob=bytes(72)), MESSAGE)
    )
    assert "length" in refusal_of(lambda: keys.sign_wrapped(replace(key, blob=bytes(71)), MESSAGE))


def plant(pool: SessionPool, **changes: Any) -> None:
    """A wrapping key of somebody else's making, in an empty token."""
    profile = {**wrapping.WRAPPING_PROFILE, **{Attribute[name]: value for name, value in changes.items()}}
    with pool.slot() as slot, pool.objects:
        slot.session.create_object(
            {
                **wrapping.SEARCH,
                Attribute.LABEL: "planted",
                Attribute.KEY_TYPE: KeyType.AES,
                Attribute.VALUE: bytes(range(32)),
                Attribute.TOKEN: True,
                **profile,
            }
        )


TEMPLATE = {"UNWRAP_TEMPLATE": wrapping.ONLY_TO_SIGN}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (TEMPLATE, "born inside"),
        ({}, "give wrapped keys away"),
        ({**TEMPLATE, "DECRYPT": True}, "DECRYPT"),
        ({**TEMPLATE, "EXTRACTABLE": True}, "EXTRACTABLE"),
        ({**TEMPLATE, "MODIFIABLE": True}, "MODIFIABLE"),
    ],
)
def test_a_planted_wrapping_key_wraps_nothing(changes: dict[str, Any], sentence: str) -> None:
    pool = pool_on("restored")
    plant(pool, **{"DESTROYABLE": True, **changes})
    store = KeyStore(pool, frozenset())
    try:
        with pytest.MonkeyPatch.context() as patch:
            # So that the test can take it away again; the rest of the profile is as it is.
            profile = {**wrapping.WRAPPING_PROFILE, Attribute.DESTROYABLE: True}
            patch.setattr(wrapping, "WRAPPING_PROFILE", profile)
            assert sentence in refusal_of(store.generate_wrapped)
    finally:
        with pool.slot() as slot, pool.objects:
            for found in slot.session.get_objects(wrapping.SEARCH):
                found.destroy()


def test_a_module_that_refuses_to_sign_costs_its_session_and_no_more(
    pool: SessionPool, keys: KeyStore
) -> None:
    key_id = secrets.token_bytes(16)
    public_key = keys.generate(key_id, "refused once", "ed25519").public_key
    with pytest.raises(HsmFault, match=r"^C_SignInit answered 0x[0-9a-f]+$"), pool.slot() as slot:
        pool.calls.sign(slot.session.handle, 2**31 - 1, Mechanism.EDDSA, MESSAGE)
    Ed25519PublicKey.from_public_bytes(public_key).verify(keys.sign(key_id, "ed25519", MESSAGE), MESSAGE)
