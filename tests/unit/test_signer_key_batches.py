"""Keys made ahead of need: each exactly once whatever dies or is lost, only as the rules allow, and vouched for by a key that can
do nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from signer.answers import answer
from signer.audit.entries import read_entries
from signer.audit.inspection import inspect
from signer.decide import Decider
from signer.protocol import canonical
from signer.protocol.attestation import VAULT, attestation_message
from signer.protocol.checkpoint import checkpoint_message
from signer.protocol.key_batches import BATCH_MAX, AttestKeys, CreateKeys, KeyBatch
from signer.protocol.messages import CreateKey, KeyView, ListKeys, SignCheckpoint
from signer.refusal import HsmFault, Refusal
from tests.fakes.signer_desk import Desk, approved, make_key
from tests.fakes.signer_hsm import START, Crash, FakeToken
from tests.fakes.signer_people import bind_stellar, make_key_rule, make_payment, make_policy, make_rule

ASKED = CreateKeys(request_id="r", org="acme", vault="deposit", label="pool", count=20)
OPERATOR, REQUESTER = frozenset({"operator"}), frozenset({"requester"})
SPEC = Path(canonical.__file__).with_name("SPEC.md")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(directory=tmp_path, token=FakeToken(), policy=make_policy())


def code_of(attempt: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(Refusal) as caught:
        attempt(*arguments)
    return caught.value.code


def verify(batch: KeyBatch, vault: str = "deposit", org: str = "acme") -> None:
    for key in batch.keys:
        message = attestation_message(org, vault, bytes.fromhex(key.key_id), key.public_key)
        Ed25519PublicKey.from_public_bytes(batch.attester).verify(key.attestation, message)


def keys_of(decider: Decider, vault: str, org: str = "acme") -> list[KeyView]:
    listed = decider.keyring.list_keys(ListKeys(org=org))
    return [view for view in listed.keys if view.vault == vault]


def test_a_batch_is_made_once_and_told_again(desk: Desk) -> None:
    batch = desk.start().keyring.create_keys(ASKED)
    verify(batch)
    assert desk.start().keyring.create_keys(ASKED) == batch
    assert desk.token.wrapped == ASKED.count
    views = keys_of(desk.start(), "deposit")
    assert [(view.key_id, view.label) for view in views] == [
        (key.key_id, f"pool.{number}of20") for number, key in enumerate(batch.keys, start=1)
    ]
    assert {view.storage for view in views} == {"wrapped"}
    # An audit finds every key let be made by the rule, and the attester by none.
    report = inspect(read_entries(desk.directory), (), keep=True)
    assert sum(row.rule == "keys-secp256k1" for row in report.rows) == ASKED.count
    assert len(keys_of(desk.start(), VAULT)) == 1


@pytest.mark.parametrize("step", [1, 3, 16, 17, 18, 19, 21, 24, 28, 31])
def test_a_death_at_any_step_loses_and_doubles_no_key(desk: Desk, step: int) -> None:
    decider = desk.start()
    desk.token.crash_at = step
    with pytest.raises(Crash):
        decider.keyring.create_keys(ASKED)
    batch = desk.start().keyring.create_keys(ASKED)
    verify(batch)
    assert len({key.key_id for key in batch.keys}) == len({key.public_key for key in batch.keys}) == 20
    assert [view.key_id for view in keys_of(desk.start(), "deposit")] == [key.key_id for key in batch.keys]
    assert len(keys_of(desk.start(), VAULT)) == 1


@pytest.mark.parametrize(
    "change", [{"count": 19}, {"count": 21}, {"label": "x"}, {"vault": "x"}, {"org": "x"}]
)
def test_a_used_request_id_makes_no_other_batch(desk: Desk, change: dict[str, object]) -> None:
    decider = desk.start()
    decider.keyring.create_keys(ASKED)
    other = replace(ASKED, **change)  # type: ignore[arg-type]  # a table of changes
    assert code_of(decider.keyring.create_keys, other) == "key_exists_different"
    assert desk.token.wrapped == ASKED.count


@pytest.mark.parametrize(
    "change",
    [
        {"count": 0}, {"count": -1}, {"count": BATCH_MAX + 1}, {"vault": VAULT}, {"vault": "checkpoints"},
        {"label": ""}, {"label": "l" * 58}, {"request_id": "r" * 63}, {"org": "a b"},
    ],
)  # fmt: skip
def test_what_is_no_batch_is_refused_before_the_token_works(desk: Desk, change: dict[str, object]) -> None:
    decider = desk.start()
    other = replace(ASKED, **change)  # type: ignore[arg-type]  # a table of changes
    assert code_of(decider.keyring.create_keys, other) == "bad_request"
    assert "generate" not in desk.token.calls


def test_rules_count_every_key_of_a_batch_and_a_stopped_one_is_completed_later(desk: Desk) -> None:
    window = {"seconds": 3600, "amount_max": "0", "count_max": 18}
    desk.policy = make_policy(allow=[make_rule("evm"), make_key_rule("secp256k1", windows=[window])])
    decider = desk.start()
    assert code_of(decider.keyring.create_keys, ASKED) == "over_velocity"
    assert len(keys_of(decider, "deposit")) == 18
    single = CreateKey(request_id="s", org="acme", vault="hot", curve="secp256k1", label="one")
    assert code_of(decider.keyring.create_key, single) == "over_velocity"
    desk.token.calls.clear()
    assert code_of(decider.keyring.create_keys, ASKED) == "over_velocity"
    assert "generate" not in desk.token.calls
    desk.token.now = START + 3601
    verify(decider.keyring.create_keys(ASKED))
    assert len(keys_of(decider, "deposit")) == 20


def test_without_an_automatic_rule_there_is_no_batch(desk: Desk) -> None:
    rule = make_key_rule("secp256k1", approvals=[{"group": "treasury", "threshold": 2}], windows=[])
    desk.policy = make_policy(allow=[make_rule("evm"), rule])
    decider = desk.start()
    assert code_of(decider.keyring.create_keys, ASKED) == "quorum_missing"
    assert code_of(decider.keyring.attest_keys, AttestKeys(org="acme", key_ids=())) == "unknown_key"
    assert decider.health().keys == 0
    assert "generate" not in desk.token.calls


def test_only_who_works_here_makes_batches_and_has_keys_vouched_for(desk: Desk) -> None:
    decider = desk.start()
    for role in ("approver", "observer"):
        assert code_of(answer, decider, frozenset({role}), ASKED) == "forbidden"
    assert "generate" not in desk.token.calls
    batch = answer(decider, REQUESTER, ASKED)
    assert isinstance(batch, KeyBatch)
    assert answer(decider, OPERATOR, ASKED) == batch
    single = CreateKey(request_id="s", org="acme", vault="deposit", curve="secp256k1", label="one")
    assert code_of(answer, decider, REQUESTER, single) == "forbidden"
    asked = AttestKeys(org="acme", key_ids=(batch.keys[3].key_id,))
    told = answer(decider, REQUESTER, asked)
    assert isinstance(told, KeyBatch)
    assert (told.attester, told.keys) == (batch.attester, (batch.keys[3],))
    assert code_of(answer, decider, frozenset({"approver"}), asked) == "forbidden"


def test_nothing_is_vouched_for_that_is_not_the_orgs_own(desk: Desk) -> None:
    decider = desk.start()
    mine, theirs = (
        decider.keyring.create_keys(ASKED),
        decider.keyring.create_keys(replace(ASKED, request_id="s", org="other", count=1)),
    )
    stellar = make_key(decider, "ed25519")
    assert mine.attester != theirs.attester
    for key_id in (theirs.keys[0].key_id, "00" * 16, "no key", stellar.key_id):
        request = AttestKeys(org="acme", key_ids=(mine.keys[0].key_id, key_id))
        assert code_of(decider.keyring.attest_keys, request) == "unknown_key"
    many = AttestKeys(org="acme", key_ids=(mine.keys[0].key_id,) * (BATCH_MAX + 1))
    assert code_of(decider.keyring.attest_keys, many) == "bad_request"
    for wrong in ({"vault": "omnibus"}, {"org": "other"}):
        with pytest.raises(InvalidSignature):
            verify(mine, **wrong)


def test_an_attester_signs_nothing_else_and_no_other_key_is_free(desk: Desk) -> None:
    # The policy's rules would allow any vault's keys both.
    decider = desk.start()
    decider.keyring.create_keys(ASKED)
    (attester,) = keys_of(decider, VAULT)
    checkpoint = SignCheckpoint(key_id=attester.key_id, org="acme", sequence=1, hash=b"h" * 32)
    assert code_of(decider.sign_checkpoint, checkpoint) == "key_purpose"
    intent = make_payment(attester, START)
    assert code_of(decider.sign, approved(intent, bind_stellar(intent, 1))) == "key_purpose"
    second = CreateKey(request_id="second", org="acme", vault=VAULT, curve="ed25519", label="x")
    assert code_of(decider.keyring.create_first_statement_key, second) == "forbidden"
    hot = replace(second, vault="hot")
    assert code_of(decider.keyring.create_first_statement_key, hot) == "forbidden"
    assert code_of(answer, decider, REQUESTER, second) == "forbidden"
    curved = replace(second, curve="secp256k1")
    assert code_of(decider.keyring.create_key, curved) == "bad_request"
    message = attestation_message("acme", "deposit", bytes(16), bytes(65))
    assert message != checkpoint_message("acme", 0, bytes(32))


def test_an_operator_renews_the_attester_by_a_rule_and_a_fault_is_asked_again(desk: Desk) -> None:
    decider = desk.start()
    old = decider.keyring.create_keys(ASKED)
    decider.keyring.create_key(
        CreateKey(request_id="renewed", org="acme", vault=VAULT, curve="ed25519", label="x")
    )
    desk.token.failing = "sign"
    with pytest.raises(HsmFault):
        decider.keyring.create_keys(ASKED)
    desk.token.failing = ""
    new = desk.start().keyring.create_keys(ASKED)
    verify(new)
    assert new.attester != old.attester
    assert [key.key_id for key in new.keys] == [key.key_id for key in old.keys]


def test_the_message_is_the_one_of_the_specification() -> None:
    key_id, public_key = bytes.fromhex("00112233445566778899aabbccddeeff"), b"\x04" + b"\xab" * 64
    tag = b"custody-key-attestation-v1"
    message = attestation_message("acme", "deposit", key_id, public_key)
    assert message == hashlib.sha256(tag + b"\0acme\0deposit\0" + key_id + public_key).digest()
    assert message.hex() in SPEC.read_text(encoding="utf-8")
