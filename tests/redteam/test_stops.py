"""S: stops. The red team would keep the signer from being stopped, stop it in others' names, or let it begin again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from signer.protocol import governance, stops
from signer.protocol.messages import Veto
from signer.protocol.stops import Resume, Resumed, Stop, Stopped
from tests.fakes.policy_desk import next_policy, people
from tests.fakes.signer_hsm import START
from tests.fakes.signer_people import approve, make_change, make_resume, make_stop
from tests.redteam.conftest import Attack, DeskSigner, changed
from tests.redteam.orders import QUORUM, RULES, change, transfer

OnDesk = Callable[..., Attack[DeskSigner]]


def order(name: str = "carol", **changes: Any) -> Stop:
    data = stops.encode(make_stop(START, **changes))
    return Stop(order=data, approval=approve(data, name)[0])


def end(stop: Stop, *names: str, **changes: Any) -> Resume:
    data = governance.encode(make_resume(stops.digest(stop.order), START, **changes))
    return Resume(intent=data, approvals=approve(data, *names))


def test_s1_a_stop_forged_or_in_anothers_name(desk_attack_on: OnDesk) -> None:
    attack = desk_attack_on()
    key, good = attack.makes_key(), order()
    attack.refuses("unknown_approver", order("mallory"))
    as_carol = replace(order("mallory").approval, approver="carol")
    attack.refuses("unknown_approver_key", replace(good, approval=as_carol))
    attack.refuses("bad_approval_signature", replace(good, order=changed(good.order, reason="another")))
    attack.refuses("malformed_intent", replace(good, order=changed(good.order, scope="chain")))
    attack.refuses("malformed_intent", replace(good, order=changed(good.order, policy_version=1)))
    rejected = approve(good.order, "carol", decision="reject")[0]
    attack.refuses("bad_decision", replace(good, approval=rejected))
    attack.owes(attack.signer.ask(transfer(key, START)))


def test_s2_somebodys_word_about_something_else_used_as_a_stop_or_a_stop_as_approval(
    desk_attack_on: OnDesk,
) -> None:
    """Each message is signed under a tag of its own."""
    attack = desk_attack_on()
    key, stop = attack.makes_key(), order("alice")
    asked = transfer(key, START)
    attack.refuses("bad_approval_signature", replace(stop, approval=asked.approvals[0]))
    document = next_policy()
    vote = approve(governance.encode(make_change(document, START)), "alice")[0]
    attack.refuses("bad_approval_signature", replace(stop, approval=vote))
    attack.refuses("bad_approval_signature", replace(asked, approvals=(stop.approval, asked.approvals[1])))
    ended = end(stop, *QUORUM)
    attack.refuses("bad_approval_signature", replace(ended, approvals=(stop.approval, ended.approvals[1])))


def test_s3_a_stop_of_somebody_who_has_left_or_of_yesterday(desk_attack_on: OnDesk) -> None:
    attack = desk_attack_on()
    key, kept = attack.makes_key(), order("carol")
    fewer = next_policy(approvers=people(*QUORUM), approver_set_version=2, allow=RULES)
    attack.takes_policy(change(fewer, *QUORUM, at=START))
    attack.refuses("unknown_approver", kept)
    attack.refuses("bad_approval_signature", order("alice"))
    attack.signer.desk.token.now = START + 600
    attack.refuses("expired", order("alice"))
    attack.refuses("wrong_policy_version", transfer(key, START))


def test_s4_a_stop_ended_by_too_few_by_strangers_or_by_whoever_asked(desk_attack_on: OnDesk) -> None:
    attack = desk_attack_on()
    key, stop = attack.makes_key(), order()
    assert isinstance(attack.signer.ask(stop), Stopped)
    attack.refuses("quorum_missing", end(stop))
    attack.refuses("quorum_missing", end(stop, "carol"))
    attack.refuses("duplicate_approver", end(stop, "carol", "carol"))
    attack.refuses("unknown_approver", end(stop, "alice", "mallory"))
    attack.refuses("initiator_approved", end(stop, *QUORUM, initiator="alice"))
    attack.refuses("unknown_stop", end(order(), *QUORUM))
    attack.refuses("unknown_stop", end(stop, *QUORUM, org="beta"))
    attack.signer.restart()
    attack.refuses("stopped", transfer(key, START))
    rejected = end(stop, *QUORUM)
    veto = approve(rejected.intent, "carol", decision="reject")
    attack.signer.ask(Veto(intent=rejected.intent, approvals=veto))
    attack.refuses("vetoed", rejected)
    attack.refuses("stopped", transfer(key, START))


def test_s5_the_end_of_one_stop_replayed_against_the_next_or_the_stop_itself_replayed(
    desk_attack_on: OnDesk,
) -> None:
    attack = desk_attack_on()
    key, first, second = attack.makes_key(), order("alice"), order("bob")
    ended = end(first, *QUORUM)
    assert isinstance(attack.signer.ask(first), Stopped)
    assert isinstance(attack.signer.ask(ended), Resumed)
    assert isinstance(attack.signer.ask(second), Stopped)
    assert isinstance(attack.signer.ask(ended), Resumed)
    attack.refuses("stopped", transfer(key, START))
    attack.signer.restart()
    attack.signer.ask(ended)
    attack.refuses("stopped", transfer(key, START))
    assert isinstance(attack.signer.ask(end(second, *QUORUM)), Resumed)
    assert isinstance(attack.signer.ask(first), Stopped)
    attack.owes(attack.signer.ask(transfer(key, START)))


def test_s6_a_signature_asked_for_in_the_moment_of_the_stop(desk_attack_on: OnDesk) -> None:
    """Whatever comes between the order and the bytes, none is journaled behind it."""
    attack = desk_attack_on()
    key, stop = attack.makes_key(), order()
    given: list[Stop] = []

    def meanwhile(call: str) -> None:
        if call == "sign" and not given:
            given.append(stop)
            assert isinstance(attack.signer.ask(stop), Stopped)

    attack.signer.desk.token.between = meanwhile
    attack.refuses("stopped", transfer(key, START))
    attack.signer.desk.token.between = None
    attack.refuses("stopped", transfer(key, START, nonce=1))
