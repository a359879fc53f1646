"""Everything about keys but signing with them: which come into being, which are taken over, which there are."""

import re
import secrets
from collections.abc import Callable

from signer.admission import (
    BORN,
    CEREMONY,
    Keys,
    admit,
    check_storage,
    create_wrapped,
    export_page,
    list_page,
    view_key,
)
from signer.checkpoints import check_first_key
from signer.facts import KeyAttested, KeyCreated, KeyReserved
from signer.protocol.checkpoint import VAULT as CHECKPOINTS
from signer.protocol.key_backup import AdmitKey, ExportKeys, WrappedKeyList
from signer.protocol.messages import CURVES, CreateKey, KeyList, KeyView, ListKeys
from signer.record import Record
from signer.refusal import Refusal

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")
_KEY_ID = re.compile(r"[0-9a-f]{32}")


class Keyring:
    """The keys of one signer. Safe for concurrent use."""

    def __init__(self, record: Record, keys: Keys, ceremony: frozenset[bytes]) -> None:
        """`ceremony`: see Decider."""
        self._record = record
        self._keys = keys
        self._ceremony = ceremony

    def create_key(self, request: CreateKey) -> KeyView:
        """Generate a key pair in the HSM. Idempotent by `request_id`; its id is journaled before it exists."""
        return self._create(request, lambda: None)

    def create_first_checkpoint_key(self, request: CreateKey) -> KeyView:
        """The same on behalf of a requester, who gets one checkpoint key for an org that has a key, and no more."""
        return self._create(request, lambda: check_first_key(self._record.state, request))

    def admit_key(self, request: AdmitKey) -> KeyView:
        """Take a key into use that a ceremony or a backup brings. Idempotent by `request_id`. Raises Refusal or HsmFault."""
        _check_request(request)
        if not _KEY_ID.fullmatch(request.key_id):
            raise Refusal("bad_request", "key_id is 32 hex characters")
        with self._record.deciding():
            return view_key(self._record.state, admit(self._record, self._keys, self._ceremony, request))

    def export_keys(self, request: ExportKeys) -> WrappedKeyList:
        """Return the wrapped bytes of one page of keys, for a backup."""
        with self._record.deciding():
            return export_page(self._record.state, request)

    def public_key(self, key_id: str) -> KeyView:
        """Return one key; raises Refusal("unknown_key")."""
        with self._record.deciding():
            if key_id not in self._record.state.public_keys:
                raise Refusal("unknown_key", "there is no such key")
            return view_key(self._record.state, key_id)

    def list_keys(self, request: ListKeys) -> KeyList:
        """Return one page of an organisation's keys, oldest first."""
        with self._record.deciding():
            return list_page(self._record.state, request)

    def _create(self, request: CreateKey, check: Callable[[], None]) -> KeyView:
        _check_request(request)
        check_storage(request)
        if request.storage == "wrapped":
            with self._record.deciding():
                check()
                return view_key(self._record.state, create_wrapped(self._record, self._keys, request))
        with self._record.deciding():
            check()
            reserved = self._reserve(request)
            exists = reserved.key_id in self._record.state.public_keys
        if not exists:
            self._generate(reserved)
        return self.public_key(reserved.key_id)

    def _generate(self, reserved: KeyReserved) -> None:
        name = f"{reserved.org}/{reserved.vault}/{reserved.curve}/{reserved.label}"
        made = self._keys.generate(bytes.fromhex(reserved.key_id), name, reserved.curve)
        origin = BORN if made.born_inside else CEREMONY
        with self._record.deciding():
            if reserved.key_id not in self._record.state.public_keys:
                self._record.append(
                    KeyAttested(key_id=reserved.key_id, origin=origin, mechanism=made.mechanism)
                )
                self._record.append(KeyCreated(key_id=reserved.key_id, public_key=made.public_key))

    def _reserve(self, request: CreateKey) -> KeyReserved:
        existing = self._record.state.key_requests.get(request.request_id)
        key_id = secrets.token_hex(16) if existing is None else existing.key_id
        asked = KeyReserved(
            request_id=request.request_id,
            key_id=key_id,
            org=request.org,
            vault=request.vault,
            curve=request.curve,
            label=request.label,
        )
        if existing is None:
            self._record.append(asked)
        elif existing != asked or key_id in self._record.state.wrapped:
            raise Refusal("key_exists_different", "this request_id made another key")
        return asked


def _check_request(request: CreateKey | AdmitKey) -> None:
    names = (request.request_id, request.org, request.vault, request.label)
    if not all(map(_NAME.fullmatch, names)):
        raise Refusal("bad_request", "request_id, org, vault and label are names of at most 64 characters")
    if request.curve not in CURVES:
        raise Refusal("bad_request", "the curve is ed25519 or secp256k1")
    if request.vault == CHECKPOINTS and request.curve != "ed25519":
        raise Refusal("bad_request", "a checkpoint key is an ed25519 key")
