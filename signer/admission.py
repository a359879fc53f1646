"""How keys come into use, other than by birth in the token: wrapped ones, and those that a ceremony or a backup brings."""

import secrets
from typing import Protocol

from signer.build.address import address_of
from signer.facts import KeyAttested, KeyCreated, KeyReserved, WrappedKeyCreated
from signer.hsm.model import TokenKey, WrappedKey
from signer.key_orders import Warrant
from signer.protocol.key_backup import AdmitKey, ExportKeys, WrappedKeyList, WrappedKeyView
from signer.protocol.messages import PAGE_MAX, CreateKey, KeyList, KeyView, ListKeys
from signer.record import Record
from signer.refusal import KeyFault, Refusal
from signer.state import State

WRAPPED_CURVE = "secp256k1"
BORN, CEREMONY = "born", "ceremony"
_PROBE = bytes(range(32))


class Keys(Protocol):
    """The signing keys, by reference only."""

    def generate(self, key_id: bytes, label: str, curve: str) -> TokenKey:
        """Generate the pair under this id, or find it. Raises HsmFault."""

    def inspect(self, key_id: bytes, curve: str) -> TokenKey:
        """Return what the token says of this key. Raises HsmFault, also when it may not serve."""

    def sign(self, key_id: bytes, curve: str, message: bytes) -> bytes:
        """Return a 64-byte signature over 32 bytes. Raises HsmFault."""

    def generate_wrapped(self) -> WrappedKey:
        """Generate a secp256k1 key that is kept outside the token. Raises HsmFault."""

    def sign_wrapped(self, key: WrappedKey, message: bytes) -> bytes:
        """Return a 64-byte signature over 32 bytes, by this key and no other. Raises HsmFault."""

    def check_wrapping_key(self, fingerprints: frozenset[bytes]) -> None:
        """Raise KeyFault unless the token holds the one wrapping key that these fingerprints name."""


def check_storage(request: CreateKey) -> None:
    """Raise Refusal unless a key on this curve can be kept so."""
    if request.storage not in ("token", "wrapped"):
        raise Refusal("bad_request", "the storage is token or wrapped")
    if request.storage == "wrapped" and request.curve != WRAPPED_CURVE:
        raise Refusal("cannot_wrap", "only secp256k1 keys can be wrapped; an ed25519 key lives in the token")


def names_same_key(known: KeyReserved, request: CreateKey) -> bool:
    """Tell whether the request asks for the key that its `request_id` made."""
    asked = (request.org, request.vault, request.curve, request.label)
    return (known.org, known.vault, known.curve, known.label) == asked


def reserve(request: CreateKey | AdmitKey, key_id: str, warrant: Warrant) -> KeyReserved:
    """Return the fact that this key may come into use."""
    return KeyReserved(
        request_id=request.request_id,
        key_id=key_id,
        org=request.org,
        vault=request.vault,
        curve=request.curve,
        label=request.label,
        rule=warrant.rule,
        state=warrant.state,
        intent=warrant.intent,
        approvals=warrant.approvals,
    )


def create_wrapped(record: Record, keys: Keys, request: CreateKey, warrant: Warrant) -> str:
    """Create a wrapped key; return its id. Idempotent by `request_id`. Raises Refusal or HsmFault."""
    known = record.state.key_requests.get(request.request_id)
    if known is not None:
        if not names_same_key(known, request) or known.key_id not in record.state.wrapped:
            raise Refusal("key_exists_different", "this request_id made another key")
        return known.key_id
    reserved = reserve(request, secrets.token_hex(16), warrant)
    record.append(wrapped_fact(reserved, keys.generate_wrapped(), BORN))
    return reserved.key_id


def wrapped_key(fact: WrappedKeyCreated) -> WrappedKey:
    """Return the key that a fact keeps."""
    return WrappedKey(public_key=fact.public_key, blob=fact.blob, wrapping_key=fact.wrapping_key)


def wrapping_keys(state: State) -> frozenset[bytes]:
    """Return the fingerprints of the wrapping keys that the journal's keys need."""
    return frozenset(fact.wrapping_key for fact in state.wrapped.values())


def admit(record: Record, keys: Keys, ceremony: frozenset[bytes], request: AdmitKey, warrant: Warrant) -> str:
    """Take the key into use; return its id. Idempotent by `request_id`. Raises Refusal or HsmFault.

    `ceremony` are the public keys and wrapping-key fingerprints that the configuration names.
    """
    asked = reserve(request, request.key_id, warrant)
    if record.state.reserved.get(request.key_id, asked) != asked:
        raise Refusal("key_exists_different", "this key is in use under another name")
    if record.state.key_requests.get(request.request_id, asked) != asked:
        raise Refusal("key_exists_different", "this request_id made another key")
    existing = record.state.public_keys.get(request.key_id)
    if existing is not None:
        wrapped = request.key_id in record.state.wrapped
        if (existing, wrapped) != (request.public_key, bool(request.blob)):
            raise Refusal("key_exists_different", "this key is in use with other bytes")
        return request.key_id
    if not request.blob:
        _admit_token_key(record, keys, asked, request.public_key)
    elif request.curve == WRAPPED_CURVE:
        record.append(wrapped_fact(asked, _openable(keys, ceremony, request), CEREMONY))
    else:
        raise Refusal("cannot_wrap", "only secp256k1 keys can be wrapped; an ed25519 key lives in the token")
    return request.key_id


def _admit_token_key(record: Record, keys: Keys, asked: KeyReserved, public_key: bytes) -> None:
    found = keys.inspect(bytes.fromhex(asked.key_id), asked.curve)
    if found.public_key != public_key:
        raise Refusal("key_mismatch", "the token's key is not the one that it is said to be")
    if asked.key_id not in record.state.reserved:
        record.append(asked)
    origin = BORN if found.born_inside else CEREMONY
    record.append(KeyAttested(key_id=asked.key_id, origin=origin, mechanism=found.mechanism))
    record.append(KeyCreated(key_id=asked.key_id, public_key=public_key))


def wrapped_fact(asked: KeyReserved, key: WrappedKey, origin: str) -> WrappedKeyCreated:
    """Return the fact that this wrapped key came into use under these names."""
    return WrappedKeyCreated(
        request_id=asked.request_id,
        key_id=asked.key_id,
        org=asked.org,
        vault=asked.vault,
        label=asked.label,
        public_key=key.public_key,
        blob=key.blob,
        wrapping_key=key.wrapping_key,
        origin=origin,
        rule=asked.rule,
        state=asked.state,
        intent=asked.intent,
        approvals=asked.approvals,
    )


def _openable(keys: Keys, ceremony: frozenset[bytes], request: AdmitKey) -> WrappedKey:
    """Return the key under that ceremony's wrapping key which the token holds; raises Refusal when none opens it."""
    for mark in sorted(ceremony):
        key = WrappedKey(public_key=request.public_key, blob=request.blob, wrapping_key=mark)
        try:
            keys.check_wrapping_key(frozenset({mark}))
        except KeyFault:
            continue
        keys.sign_wrapped(key, _PROBE)
        return key
    raise Refusal("no_wrapping_key", "the token holds no wrapping key that the configuration names")


def view_key(state: State, key_id: str) -> KeyView:
    """Return one existing key as it goes over the wire."""
    key, public_key = state.reserved[key_id], state.public_keys[key_id]
    return KeyView(
        key_id=key.key_id,
        org=key.org,
        vault=key.vault,
        curve=key.curve,
        label=key.label,
        public_key=public_key.hex(),
        address=address_of(key.curve, public_key),
        storage="wrapped" if key_id in state.wrapped else "token",
        origin=state.origins.get(key_id, BORN),
        state=state.standing[key_id][0],
    )


def list_page(state: State, request: ListKeys) -> KeyList:
    """Return one page of an organisation's keys, oldest first."""
    ids = state.keys_of.get(request.org, [])
    page = ids[_start(request.start) :][:PAGE_MAX]
    return KeyList(keys=tuple(view_key(state, key_id) for key_id in page), total=len(ids))


def export_page(state: State, request: ExportKeys) -> WrappedKeyList:
    """Return the wrapped keys of one page, for a backup."""
    ids = state.keys_of.get(request.org, [])
    page = ids[_start(request.start) :][:PAGE_MAX]
    facts = [state.wrapped[key_id] for key_id in page if key_id in state.wrapped]
    views = tuple(
        WrappedKeyView(
            key_id=fact.key_id,
            vault=fact.vault,
            label=fact.label,
            public_key=fact.public_key,
            blob=fact.blob,
            wrapping_key=fact.wrapping_key,
        )
        for fact in facts
    )
    return WrappedKeyList(keys=views, passed=len(page), total=len(ids))


def _start(value: int) -> int:
    if value < 0:
        raise Refusal("bad_request", "start is a number of keys")
    return value
