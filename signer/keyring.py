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
    names_same_key,
    reserve,
    view_key,
)
from signer.checkpoints import check_first_key
from signer.facts import KeyAttested, KeyCreated, KeyReserved
from signer.governance import read_governance
from signer.key_batches import attest, check_attest, create_batch, find_attester, first_attester, read_batch
from signer.key_orders import (
    FIRST_STATEMENT_KEY,
    Warrant,
    as_request,
    change_state,
    warrant_by_people,
    warrant_by_rule,
)
from signer.protocol.attestation import STATEMENT_VAULTS
from signer.protocol.governance import KeyCreate, KeyStateChange
from signer.protocol.key_backup import AdmitKey, ExportKeys, WrappedKeyList
from signer.protocol.key_batches import AttestKeys, CreateKeys, KeyBatch
from signer.protocol.messages import CURVES, ChangeKey, CreateKey, KeyList, KeyView, ListKeys
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

    def change_key(self, request: ChangeKey) -> KeyView:
        """Create a key, or let one into another state, as people approved. Idempotent by the intent. Raises Refusal, HsmFault."""
        intent, digest = read_governance(request.intent)
        if isinstance(intent, KeyCreate):
            return self._create(
                as_request(intent), lambda: warrant_by_people(self._record, intent, digest, request)
            )
        if not isinstance(intent, KeyStateChange):
            raise Refusal("bad_request", "a change of the policy is not one of a key")
        with self._record.deciding():
            change_state(self._record, intent, digest, request)
            return view_key(self._record.state, intent.key_id)

    def create_key(self, request: CreateKey) -> KeyView:
        """Generate a key pair in the HSM that a rule allows without people. Idempotent by `request_id`; its id is journaled
        before it exists.
        """
        return self._create(request, lambda: warrant_by_rule(self._record, request))

    def create_first_statement_key(self, request: CreateKey) -> KeyView:
        """The same on behalf of a requester, who gets one key of such a vault for an org that has a key, and no more."""

        def first() -> Warrant:
            check_first_key(self._record.state, request)
            return FIRST_STATEMENT_KEY

        return self._create(request, first)

    def create_keys(self, request: CreateKeys) -> KeyBatch:
        """Generate wrapped keys ahead of need, and vouch for them. Idempotent by `request_id`: what a lost answer told is told
        again, and what is missing is made. Raises Refusal, HsmFault.
        """
        orders = read_batch(request)
        for order in orders:
            _check_request(order)
        key_ids = create_batch(self._record, self._keys, orders)
        return attest(self._record, self._keys, request.org, self._attester(request.org), key_ids)

    def attest_keys(self, request: AttestKeys) -> KeyBatch:
        """Vouch for keys of an org. Raises Refusal, HsmFault."""
        check_attest(request)
        if not _NAME.fullmatch(request.org):
            raise Refusal("bad_request", "org is a name of at most 64 characters")
        return attest(self._record, self._keys, request.org, self._attester(request.org), request.key_ids)

    def _attester(self, org: str) -> tuple[str, bytes]:
        """Return id and public half of the org's key for attestations, made now if an org with keys has none."""
        with self._record.deciding():
            if org not in self._record.state.keys_of:
                raise Refusal("unknown_key", "this org has no keys")
            found = find_attester(self._record.state, org)
        if found is not None:
            return found
        made = self.create_first_statement_key(first_attester(org))
        return made.key_id, bytes.fromhex(made.public_key)

    def admit_key(self, request: AdmitKey) -> KeyView:
        """Take a key into use that a ceremony or a backup brings, if a rule lets one like it be made without people.

        Idempotent by `request_id`. Raises Refusal or HsmFault.
        """
        _check_request(request)
        if not _KEY_ID.fullmatch(request.key_id):
            raise Refusal("bad_request", "key_id is 32 hex characters")
        with self._record.deciding():
            warrant = warrant_by_rule(self._record, request)
            key_id = admit(self._record, self._keys, self._ceremony, request, warrant)
            return view_key(self._record.state, key_id)

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

    def _create(self, request: CreateKey, allow: Callable[[], Warrant]) -> KeyView:
        _check_request(request)
        check_storage(request)
        with self._record.deciding():
            warrant = allow()
            if request.storage == "wrapped":
                key_id = create_wrapped(self._record, self._keys, request, warrant)
                return view_key(self._record.state, key_id)
            reserved = self._reserve(request, warrant)
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

    def _reserve(self, request: CreateKey, warrant: Warrant) -> KeyReserved:
        state = self._record.state
        existing = state.key_requests.get(request.request_id)
        if existing is not None:
            if not names_same_key(existing, request) or existing.key_id in state.wrapped:
                raise Refusal("key_exists_different", "this request_id made another key")
            return existing
        reserved = reserve(request, secrets.token_hex(16), warrant)
        self._record.append(reserved)
        return reserved


def _check_request(request: CreateKey | AdmitKey) -> None:
    names = (request.request_id, request.org, request.vault, request.label)
    if not all(map(_NAME.fullmatch, names)):
        raise Refusal("bad_request", "request_id, org, vault and label are names of at most 64 characters")
    if request.curve not in CURVES:
        raise Refusal("bad_request", "the curve is ed25519 or secp256k1")
    if request.vault in STATEMENT_VAULTS and request.curve != "ed25519":
        raise Refusal("bad_request", "a key for checkpoints or attestations is an ed25519 key")
