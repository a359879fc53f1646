"""B: batches. The red team holds the approvals of one batch and would have them count for more, others, or fewer people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from signer.protocol import batch, canonical
from signer.protocol.approvals import Approval
from signer.protocol.batch import ApproveBatch, BatchApproved
from signer.protocol.messages import KeyView, Sign
from tests.fakes.signer_batches import ask_batch, vote
from tests.fakes.signer_hsm import START
from tests.fakes.signer_people import approve, bind_evm, key_rules, make_rule, make_transfer
from tests.redteam.conftest import Attack, DeskSigner, changed
from tests.redteam.orders import QUORUM

OnDesk = Callable[..., Attack[DeskSigner]]
ONE = [{"group": "treasury", "threshold": 1}]


def line(key: KeyView, amount: int, **changes: Any) -> bytes:
    return canonical.encode(make_transfer(key, START, amount=amount, **changes))


def sign(data: bytes, *approvals: Approval, nonce: int = 0) -> Sign:
    return Sign(intent=data, approvals=approvals, binding=bind_evm(nonce))


def taken(attack: Attack[DeskSigner], lines: Sequence[bytes], *names: str) -> ApproveBatch:
    """A batch that these people did approve; the attack begins from there."""
    asked = ask_batch(lines, *(names or QUORUM))
    assert isinstance(attack.signer.ask(asked), BatchApproved)
    return asked


def test_b1_a_payment_that_is_in_no_list(desk_attack_on: OnDesk) -> None:
    attack = desk_attack_on()
    key = attack.makes_key()
    lines, mine = [line(key, 1), line(key, 2)], line(key, 3)
    asked = taken(attack, lines)
    attack.refuses("quorum_missing", sign(mine))
    attack.refuses("bad_approval_signature", sign(mine, *asked.approvals))
    for spoiled in ([*lines, mine], [lines[0], mine], lines[:1], lines[::-1], [lines[0], lines[0]]):
        attack.refuses("malformed_intent", replace(asked, lines=tuple(spoiled)))
    attack.signer.restart()
    attack.refuses("quorum_missing", sign(mine))
    attack.owes(attack.signer.ask(sign(lines[1])))


def test_b2_approvals_of_one_batch_for_another_or_for_its_lines_alone(desk_attack_on: OnDesk) -> None:
    attack = desk_attack_on()
    key = attack.makes_key()
    lines = [line(key, 1), line(key, 2)]
    asked = ask_batch(lines)
    other = ask_batch([line(key, 5), line(key, 6)])
    attack.refuses("bad_approval_signature", replace(other, approvals=asked.approvals))
    again = batch.build(lines, "6f1c1f6e-3c1d-4a52-9a1b-0d6a3a3f7c11")
    attack.refuses("bad_approval_signature", replace(asked, batch=again))
    attack.refuses("bad_approval_signature", sign(lines[0], *asked.approvals))
    attack.refuses("bad_approval_signature", replace(asked, approvals=approve(lines[0], *QUORUM)))
    attack.refuses("duplicate_approver", replace(asked, approvals=asked.approvals[:1] * 2))
    attack.refuses("unknown_approver", ask_batch(lines, "alice", "mallory"))


def test_b3_a_batch_in_the_name_of_another_organisation_or_initiator(desk_attack_on: OnDesk) -> None:
    attack = desk_attack_on()
    key = attack.makes_key()
    mixed = [line(key, 1), line(key, 2, initiator="alice")]
    good = ask_batch([line(key, 1), line(key, 2)])
    for change in ({"org": "beta"}, {"initiator": "bob"}, {"policy_version": 2}, {"count": 3}):
        data = changed(good.batch, **change)
        attack.refuses("malformed_intent", replace(good, batch=data, approvals=vote(data, *QUORUM)))
    attack.refuses("malformed_intent", replace(good, lines=tuple(mixed)))
    own = ask_batch([line(key, 1, initiator="alice"), line(key, 2, initiator="alice")])
    attack.refuses("initiator_approved", own)
    foreign = [line(key, 1, org="beta"), line(key, 2, org="beta")]
    taken(attack, foreign)
    attack.refuses("unknown_key", sign(foreign[0]))


def test_b4_sums_that_are_shown_smaller_or_split_below_a_threshold(desk_attack_on: OnDesk) -> None:
    small = make_rule("small", asset="native", amount_max="100", approvals=ONE)
    attack = desk_attack_on(allow=[small, make_rule("large", asset="native"), *key_rules()])
    key = attack.makes_key()
    lines = [line(key, 60), line(key, 60)]
    data = changed(ask_batch(lines).batch, totals="eip155:31337|hot|native|60")
    lying = ApproveBatch(batch=data, lines=tuple(lines), approvals=vote(data, "alice"))
    attack.refuses("malformed_intent", lying)
    asked = taken(attack, lines, "alice")
    for each in lines:
        attack.refuses("quorum_missing", sign(each))
        attack.refuses("quorum_missing", sign(each, *approve(each, "alice")))
    apart = batch.build(lines[:1], "6f1c1f6e-3c1d-4a52-9a1b-0d6a3a3f7c11")
    mine = ApproveBatch(batch=apart, lines=(lines[0],), approvals=vote(apart, "alice"))
    attack.refuses("line_of_another", mine)
    attack.signer.restart()
    attack.refuses("quorum_missing", sign(lines[0]))
    attack.signer.ask(replace(asked, approvals=vote(asked.batch, *QUORUM)))
    attack.owes(attack.signer.ask(sign(lines[0])))


def test_b5_a_batch_after_its_time_or_after_it_was_rejected(desk_attack_on: OnDesk) -> None:
    attack = desk_attack_on()
    key = attack.makes_key()
    lines = [line(key, 1), line(key, 2)]
    asked = taken(attack, lines)
    late = ask_batch([line(key, 3)])
    rejected = replace(asked, approvals=vote(asked.batch, "carol", decision="reject"))
    attack.refuses("vetoed", rejected)
    attack.refuses("vetoed", asked)
    attack.refuses("vetoed", sign(lines[0]))
    attack.refuses("vetoed", sign(lines[0], *approve(lines[0], *QUORUM)))
    attack.signer.desk.token.now = START + 600
    attack.refuses("expired", late)
