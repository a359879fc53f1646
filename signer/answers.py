"""Who may ask for what, and which part of the signer answers."""

from typing import assert_never

from signer.decide import Decider
from signer.protocol.batch import ApproveBatch
from signer.protocol.checkpoint import VAULT as CHECKPOINTS
from signer.protocol.governance import is_governance
from signer.protocol.key_backup import AdmitKey, ExportKeys
from signer.protocol.key_batches import AttestKeys, CreateKeys
from signer.protocol.messages import (
    ChangeKey,
    ChangePolicy,
    CreateKey,
    Explain,
    GetPolicy,
    GetPolicyDocument,
    Health,
    ListKeys,
    PublicKey,
    Request,
    Response,
    Sign,
    SignCheckpoint,
    Veto,
)
from signer.protocol.stops import ListStops, Resume, Stop
from signer.protocol.voids import Void
from signer.refusal import Refusal

REQUESTER = frozenset({"requester"})
_APPROVER = frozenset({"requester", "approver"})
_OPERATOR = frozenset({"operator"})
_ANY = frozenset({"requester", "approver", "operator", "observer"})


def answer(decider: Decider, roles: frozenset[str], request: Request) -> Response:
    """Return the answer to a request by a peer with these roles; raises Refusal or HsmFault."""
    match request:
        case Sign() | SignCheckpoint() | ApproveBatch() | Void():
            _demand(roles, REQUESTER)
            return _sign(decider, request)
        case Veto():
            _demand(roles, _APPROVER | _OPERATOR if is_governance(request.intent) else _APPROVER)
            return decider.veto(request)
        case Stop():
            _demand(roles, _APPROVER | _OPERATOR)
            return decider.order_stop(request)
        case CreateKeys():
            _demand(roles, REQUESTER | _OPERATOR)
            return decider.keyring.create_keys(request)
        case AttestKeys():
            _demand(roles, REQUESTER | _OPERATOR)
            return decider.keyring.attest_keys(request)
        case CreateKey() | ChangeKey() | ChangePolicy() | Resume() | AdmitKey() | ExportKeys():
            return _carry_out(decider, roles, request)
        case _:
            _demand(roles, _ANY)
            return _show(decider, request)


def _sign(decider: Decider, request: Sign | SignCheckpoint | ApproveBatch | Void) -> Response:
    """Answer what the product asks for."""
    match request:
        case Sign():
            return decider.sign(request)
        case SignCheckpoint():
            return decider.sign_checkpoint(request)
        case ApproveBatch():
            return decider.take_batch(request)
        case Void():
            return decider.void(request)
        case _:
            assert_never(request)


def _carry_out(
    decider: Decider,
    roles: frozenset[str],
    request: CreateKey | ChangeKey | ChangePolicy | Resume | AdmitKey | ExportKeys,
) -> Response:
    """Answer what operators ask for."""
    if isinstance(request, CreateKey) and request.vault == CHECKPOINTS and not roles & _OPERATOR:
        _demand(roles, REQUESTER)
        return decider.keyring.create_first_statement_key(request)
    _demand(roles, _OPERATOR)
    match request:
        case CreateKey():
            return decider.keyring.create_key(request)
        case ChangeKey():
            return decider.keyring.change_key(request)
        case ChangePolicy():
            return decider.change_policy(request)
        case Resume():
            return decider.resume(request)
        case AdmitKey():
            return decider.keyring.admit_key(request)
        case ExportKeys():
            return decider.keyring.export_keys(request)
        case _:
            assert_never(request)


def _show(
    decider: Decider,
    request: Explain | PublicKey | ListKeys | ListStops | GetPolicy | GetPolicyDocument | Health,
) -> Response:
    """Answer what changes nothing."""
    match request:
        case Explain():
            return decider.explain(request)
        case PublicKey():
            return decider.keyring.public_key(request.key_id)
        case ListKeys():
            return decider.keyring.list_keys(request)
        case ListStops():
            return decider.list_stops(request)
        case GetPolicy():
            return decider.show_policy()
        case GetPolicyDocument():
            return decider.policy_document(request)
        case Health():
            return decider.health()
        case _:
            assert_never(request)


def _demand(roles: frozenset[str], any_of: frozenset[str]) -> None:
    if not roles & any_of:
        raise Refusal("forbidden", "the peer's role does not cover this request")
