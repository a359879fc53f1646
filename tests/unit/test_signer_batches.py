"""Batches in the signer: one approval for every line, and the sums decide how many people it takes. Audited at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from signer.decide import Decider
from signer.protocol import batch, canonical
from signer.protocol.approvals import BATCH_TAG, approval_message
from signer.protocol.batch import ApproveBatch
from signer.protocol.canonical import MalformedIntent
from signer.protocol.intent import EvmReplace, EvmTransfer
from signer.protocol.messages import Binding, EvmBinding, Explain, KeyView, Sign, Signed, Veto, dump
from signer.protocol.wire import FRAME_MAX
from signer.refusal import Refusal
from tests.fakes.signer_batches import ask_batch, vote
from tests.fakes.signer_desk import Desk, code_of, make_key
from tests.fakes.signer_hsm import START
from tests.fakes.signer_kinds import make_kind
from tests.fakes.signer_people import (
    RECEIVER,
    TOKEN,
    approve,
    bind_evm,
    bind_stellar,
    key_rules,
    make_erc20,
    make_payment,
    make_rule,
    make_transfer,
)

ONE, TWO = ([{"group": "treasury", "threshold": each}] for each in (1, 2))
SPEC = Path(batch.__file__).with_name("SPEC.md")


def lines_of(key: KeyView, *amounts: int, **changes: Any) -> list[bytes]:
    """Transfers of these amounts."""
    return [canonical.encode(make_transfer(key, START, amount=amount, **changes)) for amount in amounts]


def sign(line: bytes, nonce: int = 0) -> Sign:
    """Ask for a line, without approvals of its own."""
    return Sign(intent=line, approvals=(), binding=bind_evm(nonce))


def batch_code(decider: Decider, asked: ApproveBatch) -> str:
    with pytest.raises(Refusal) as caught:
        decider.take_batch(asked)
    return caught.value.code


def test_one_approval_lets_every_line_be_signed_and_survives_a_restart(signer: Desk) -> None:
    decider = signer.start()
    evm, stellar = make_key(decider), make_key(decider, "ed25519")
    payment = make_payment(stellar, START)
    lines = [*lines_of(evm, 1, 2), canonical.encode(payment), canonical.encode(make_erc20(evm, START))]
    bindings: list[Binding] = [bind_evm(0), bind_evm(1), bind_stellar(payment, 7), bind_evm(2)]
    assert code_of(decider, sign(lines[0])) == "quorum_missing"
    asked = ask_batch(lines)
    assert decider.take_batch(asked) == decider.take_batch(asked)
    decider = signer.start()
    assert decider.take_batch(asked).batch_digest == batch.digest(asked.batch).hex()
    for line, binding in zip(lines, bindings, strict=True):
        one = Sign(intent=line, approvals=(), binding=binding)
        signed = decider.sign(one)
        assert signer.start().sign(one) == signed
        decider = signer.start()
    assert sum(b'"BatchTaken"' in line for line in signer.lines()) == 1


def test_more_people_may_come_later_and_fewer_change_nothing(decider: Decider) -> None:
    lines = lines_of(make_key(decider), 1, 2)
    whole = ask_batch(lines, "alice", "bob")
    decider.take_batch(replace(whole, approvals=whole.approvals[:1]))
    told = decider.explain(Explain(intent=lines[0], approvals=()))
    assert (told.code, told.groups[0].counted) == ("quorum_missing", ("alice",))
    decider.take_batch(whole)
    decider.take_batch(replace(whole, approvals=whole.approvals[1:]))
    assert isinstance(decider.sign(sign(lines[1])), Signed)


@pytest.fixture
def tiers(make_signer: Callable[..., Desk]) -> Desk:
    """One person up to a hundred, two up to a thousand, of one asset each."""
    return make_signer(
        allow=[
            make_rule("small", asset="native", amount_max="100", approvals=ONE),
            make_rule("large", asset="native", amount_max="1000", approvals=TWO),
            make_rule("tokens", asset=TOKEN, amount_max="1000000", approvals=ONE),
            *key_rules(),
        ]
    )


def test_what_is_split_into_lines_asks_for_as_many_people_as_in_one(tiers: Desk) -> None:
    decider = tiers.start()
    key = make_key(decider)
    few, many = lines_of(key, 50, 50), lines_of(key, *[10] * 11)
    decider.take_batch(ask_batch(few, "alice"))
    assert isinstance(decider.sign(sign(few[0])), Signed)
    decider.take_batch(ask_batch(many, "alice"))
    for line in many:
        assert code_of(decider, sign(line, 1)) == "quorum_missing"
    told = decider.explain(Explain(intent=many[0], approvals=()))
    assert (told.rule, told.groups[0].threshold) == ("large", 2)
    too_much = lines_of(key, 600, 600)
    decider.take_batch(ask_batch(too_much, "alice", "bob"))
    assert code_of(decider, sign(too_much[0], 1)) == "over_amount_cap"


def test_sums_are_of_one_asset_each_and_a_line_with_own_approvals_is_no_smaller(tiers: Desk) -> None:
    decider = tiers.start()
    key = make_key(decider)
    token = canonical.encode(make_erc20(key, START))
    lines = [*lines_of(key, 60, 60), token]
    decider.take_batch(ask_batch(lines, "alice"))
    assert code_of(decider, sign(lines[0])) == "quorum_missing"
    alone = Sign(intent=lines[0], approvals=approve(lines[0], "bob"), binding=bind_evm(0))
    assert code_of(decider, alone) == "quorum_missing"
    assert isinstance(decider.sign(sign(token, 1)), Signed)


def test_velocity_counts_each_line_once(make_signer: Callable[..., Desk]) -> None:
    window = {"seconds": 1000, "amount_max": "100", "count_max": 9}
    decider = make_signer(allow=[make_rule("capped", asset="native", windows=[window]), *key_rules()]).start()
    lines = lines_of(make_key(decider), 40, 40, 40)
    decider.take_batch(ask_batch(lines))
    for nonce, line in enumerate(lines[:2]):
        assert isinstance(decider.sign(sign(line, nonce)), Signed)
    assert code_of(decider, sign(lines[2], 2)) == "over_velocity"


def test_a_rejection_of_a_batch_ends_all_lines_that_are_not_signed(signer: Desk) -> None:
    decider = signer.start()
    lines = lines_of(make_key(decider), 1, 2, 3)
    asked = ask_batch(lines)
    decider.take_batch(asked)
    signed = decider.sign(sign(lines[0]))
    rejected = replace(asked, approvals=vote(asked.batch, "carol", decision="reject"))
    assert batch_code(decider, rejected) == "vetoed"
    decider = signer.start()
    assert decider.sign(sign(lines[0])) == signed
    for line in lines[1:]:
        assert code_of(decider, sign(line, 1)) == "vetoed"
    assert batch_code(decider, asked) == "vetoed"


def test_a_rejection_of_one_line_ends_that_line(decider: Decider) -> None:
    lines = lines_of(make_key(decider), 1, 2)
    decider.take_batch(ask_batch(lines))
    decider.veto(Veto(intent=lines[0], approvals=approve(lines[0], "carol", decision="reject")))
    assert code_of(decider, sign(lines[0])) == "vetoed"
    assert isinstance(decider.sign(sign(lines[1])), Signed)


def test_a_line_is_bid_for_again_under_the_batchs_approval(decider: Decider) -> None:
    key = make_key(decider)
    lines = lines_of(key, 1, 2)
    decider.take_batch(ask_batch(lines))
    cheap = replace(bind_evm(0), max_priority_fee_per_gas=5 * 10**8)
    decider.sign(Sign(intent=lines[0], approvals=(), binding=cheap))
    first = canonical.decode(lines[0])
    assert isinstance(first, EvmTransfer)
    shared = {field.name: getattr(first, field.name) for field in fields(first) if field.name != "request_id"}
    dearer = EvmReplace(
        **shared,
        request_id="6f1c1f6e-3c1d-4a52-9a1b-0d6a3a3f7c99",
        replaces=canonical.digest(lines[0]).hex(),
        replaced_kind="evm_transfer",
        asset="native",
    )
    bid = EvmBinding(nonce=0, max_fee_per_gas=25 * 10**9, max_priority_fee_per_gas=10**9)
    asked = Sign(intent=canonical.encode(dearer), approvals=(), binding=bid)
    assert isinstance(decider.sign(asked), Signed)


# --- the document -----------------------------------------------------------------------------------------------------------


def spoiled(lines: list[bytes], key: KeyView) -> dict[str, tuple[list[bytes], str]]:
    other = canonical.encode(make_transfer(key, START, amount=9))
    return {
        "a line that is not in the list": ([*lines[:-1], other], "wrong_lines"),
        "one more": ([*lines, other], "wrong_lines"),
        "one less": (lines[:-1], "wrong_lines"),
        "another order": (list(reversed(lines)), "wrong_lines"),
        "one twice": ([lines[0], lines[0], *lines[2:]], "duplicate_line"),
        "none": ([], "wrong_lines"),
    }


def test_other_lines_than_the_documents_are_refused(decider: Decider) -> None:
    key = make_key(decider)
    lines = lines_of(key, 1, 2, 3)
    asked = ask_batch(lines)
    for name, (changed, code) in spoiled(lines, key).items():
        with pytest.raises(Refusal, match="malformed_intent") as caught:
            decider.take_batch(replace(asked, lines=tuple(changed)))
        assert code in caught.value.text, name


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"totals": "eip155:31337|hot|native|5"}, "wrong_totals"),
        ({"totals": ""}, "wrong_totals"),
        ({"org": "beta"}, "line_differs"),
        ({"initiator": "mallory"}, "line_differs"),
        ({"policy_version": 2}, "line_differs"),
        ({"expires_at": START + 10**6}, "line_differs"),
        ({"count": 2}, "wrong_lines"),
    ],
)
def test_a_document_that_says_something_else_than_its_lines_is_refused(
    decider: Decider, change: dict[str, Any], code: str
) -> None:
    """Also with true approvals of exactly that document."""
    lines = lines_of(make_key(decider), 1, 2, 3)
    asked = ask_batch(lines)
    data = batch.encode(replace(batch.decode(asked.batch), **change))
    with pytest.raises(Refusal, match="malformed_intent") as caught:
        decider.take_batch(replace(asked, batch=data, approvals=vote(data, "alice", "bob")))
    assert code in caught.value.text


def test_what_is_set_aside_to_be_claimed_counts_as_a_payment_of_its_asset(decider: Decider) -> None:
    line = make_kind("stellar_create_claimable_balance", make_key(decider), START)
    assert batch.sums_of([line, line]) == {(line.chain, line.vault, line.asset): 2 * line.amount}


def test_only_payments_can_be_lines(decider: Decider) -> None:
    key = make_key(decider)
    for kind in ("evm_erc20_approve", "evm_fill", "evm_message", "evm_sweep"):
        changes = {"destination": RECEIVER, "destination_vault": "hot"} if kind == "evm_sweep" else {}
        line = canonical.encode(make_kind(kind, key, START, **changes))
        with pytest.raises(MalformedIntent, match="bad_line"):
            batch.build([*lines_of(key, 1), line], "6f1c1f6e-3c1d-4a52-9a1b-0d6a3a3f7c11")
    with pytest.raises(MalformedIntent, match="out_of_range"):
        batch.build(lines_of(key, *range(1, 102)), "6f1c1f6e-3c1d-4a52-9a1b-0d6a3a3f7c11")


def test_a_hundred_lines_fit_one_request(decider: Decider) -> None:
    asked = ask_batch(lines_of(make_key(decider), *range(1, 101)))
    assert len(dump(asked)) < FRAME_MAX
    decider.take_batch(asked)
    assert isinstance(decider.sign(sign(asked.lines[99])), Signed)


def test_the_specification_shows_a_batch_that_holds() -> None:
    section = SPEC.read_text().partition("## 14. Batches")[2]
    data, digest, message = section.partition("Vector:\n```\n")[2].splitlines()[:3]
    name = batch.digest(data.encode())
    assert batch.decode(data.encode()).count == 2
    assert digest.endswith(name.hex())
    expected = approval_message(decision="approve", digest=name, approver_set_version=1, tag=BATCH_TAG)
    assert message.endswith(expected.hex())
