"""Approvals by every kind of key through REST: what is right is stored with its evidence, what is bent gets a typed refusal."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from custody.db.session import Database
from custody.policy import service as policies
from custody.policy.model import ApproverKey
from custody.signing import intents
from custody.signing.evidence import read_key
from signer.policy.approver_keys import parse_key
from signer.protocol.approvals import Approval, Assertion, approval_message
from signer.protocol.webauthn import encode_base64url
from tests.fakes.authenticator import HONEST, Authenticator, Bend, private_key, sign_raw_p256, spell
from tests.integration.api_harness import STRANGER, XLM, Harness, make_policy, running

POINT = spell(private_key("p256", "bob"))


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    """Alice has a passkey of each algorithm besides her old key, Bob a P-256 key."""
    async with running(database) as harness:
        old = make_policy()
        alice, bob, carol = old.approvers
        entries = [device(algorithm).entry() for algorithm in ("ES256", "EdDSA", "RS256")]
        passkeys = tuple(read_key(parse_key(entry, "a key")) for entry in entries)
        by_hand = ApproverKey(algorithm="p256", public_key=POINT, passkey=None)
        people = (
            replace(alice, keys=(*alice.keys, *passkeys)),
            replace(bob, keys=(*bob.keys, by_hand)),
            carol,
        )
        changed = replace(old, version=2, policy_hash="cd" * 32, approvers=people)
        async with harness.app.db.unit_of_work(None) as uow:
            assert await policies.adopt(uow, changed)
        async with harness.app.db.read(None) as session:
            assert await policies.current(session) == changed
        yield harness


def device(algorithm: str) -> Authenticator:
    return Authenticator(name="alice", algorithm=algorithm)


async def ask_withdrawal(api: Harness) -> tuple[str, bytes]:
    body = {"wallet_id": api.tenant.wallet, "asset": XLM.text, "amount": "1234", "destination": STRANGER}
    asked = str((await api.post("/v1/withdrawals", body)).json()["id"])
    shown = (await api.get(f"/v1/approvals/{asked}")).json()
    return asked, base64.b64decode(shown["intent"])


def body_of(approval: Approval) -> dict[str, Any]:
    body: dict[str, Any] = {
        "approver": approval.approver,
        "public_key": approval.public_key,
        "decision": approval.decision,
        "signature": approval.evidence.signature.hex(),
    }
    if isinstance(approval.evidence, Assertion):
        body["webauthn"] = {
            "credential_id": approval.evidence.credential_id,
            "authenticator_data": encode_base64url(approval.evidence.authenticator_data),
            "client_data_json": encode_base64url(approval.evidence.client_data_json),
        }
    return body


def by_hand(intent: bytes) -> dict[str, Any]:
    message = approval_message(decision="approve", digest=intents.digest(intent), approver_set_version=1)
    signed = sign_raw_p256(private_key("p256", "bob"), message)
    return body_of(Approval(approver="bob", public_key=POINT, decision="approve", evidence=signed))


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "RS256"])
async def test_a_passkey_and_a_p256_key_make_a_quorum(api: Harness, algorithm: str) -> None:
    asked, intent = await ask_withdrawal(api)
    path = f"/v1/approvals/{asked}/decisions"
    first = body_of(device(algorithm).approve(intent))
    answer = await api.post(path, first)
    assert (answer.status_code, answer.json()["missing"]) == (201, 1)
    assert answer.json()["decisions"] == [first]
    second = by_hand(intent)
    assert (await api.post(path, second)).json()["state"] == "approved"
    read = (await api.get(f"/v1/approvals/{asked}")).json()
    assert read["decisions"] == [first, second | {"webauthn": None}]
    assert {key["approver"] for key in read["passkeys"]} == {"alice"}
    assert len(read["passkeys"]) == 3


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (Bend(client={"crossOrigin": True}), "cross_origin"),
        (Bend(origin="https://evil.example"), "wrong_origin"),
        (Bend(type="webauthn.create"), "wrong_ceremony"),
        (Bend(rp_id="evil.example"), "wrong_rp_id"),
        (Bend(flags=0x01), "user_not_verified"),
        (Bend(credential_id="AAAA"), "wrong_credential"),
        (Bend(challenge=lambda _: bytes(32)), "wrong_challenge"),
        (Bend(signature=lambda one: one[::-1]), "bad_assertion_signature"),
    ],
)
async def test_a_bent_assertion_is_a_typed_refusal_and_is_not_stored(
    api: Harness, bend: Bend, reason: str
) -> None:
    asked, intent = await ask_withdrawal(api)
    answer = await api.post(
        f"/v1/approvals/{asked}/decisions", body_of(device("ES256").approve(intent, bend))
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_decision")
    assert f"reason={reason}" in answer.json()["detail"]
    assert (await api.get(f"/v1/approvals/{asked}")).json()["decisions"] == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"webauthn": None}, "invalid_decision"),
        ({"approver": "bob"}, "invalid_decision"),
        ({"public_key": POINT}, "invalid_decision"),
        ({"client_data_json": "A"}, "invalid_decision"),
        ({"client_data_json": "A" * 2732}, "invalid_input"),
        ({"authenticator_data": "A" * 51}, "invalid_input"),
        ({"authenticator_data": "AAAA"}, "invalid_decision"),
        ({"credential_id": "+/=="}, "invalid_input"),
        ({"user_handle": "AAAA"}, "invalid_input"),
    ],
)
async def test_another_form_is_refused(api: Harness, change: dict[str, Any], code: str) -> None:
    asked, intent = await ask_withdrawal(api)
    body = body_of(device("ES256").approve(intent, HONEST))
    for name, value in change.items():
        (body if name in body else body["webauthn"])[name] = value
    answer = await api.post(f"/v1/approvals/{asked}/decisions", body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def insert_row(api: Harness, columns: dict[str, str]) -> None:
    honest = {"public_key": f"'{POINT}'", "signature": "'00'", "tenant_id": str(api.tenant.id)}
    row = honest | {"digest": "sha256('x')", "approver": "'alice'", "word": "'approve'"} | columns
    names, values = ", ".join(row), ", ".join(row.values())
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        await uow.conn.execute(text(f"INSERT INTO approvals ({names}) VALUES ({values})"))


@pytest.mark.parametrize(
    "columns",
    [
        {"credential_id": "'AAAA'"},
        {"authenticator_data": "'x'", "client_data_json": "'x'", "credential_id": "'AAAA'"},
        {"public_key": "'zz'"},
        {"signature": "repeat('00', 600)"},
    ],
)
async def test_the_database_refuses_half_an_assertion(api: Harness, columns: dict[str, str]) -> None:
    with pytest.raises(IntegrityError):
        await insert_row(api, columns)
    await insert_row(api, {})
