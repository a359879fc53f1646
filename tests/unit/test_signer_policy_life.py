"""When a change of the policy counts, whom it outdates, and what a restart remembers."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from signer.decide import Decider
from signer.journal import FILE_NAME
from signer.protocol import governance
from signer.protocol.messages import (
    ChangePolicy,
    Explain,
    GetPolicyDocument,
    Veto,
)
from signer.refusal import EvidenceFault, Refusal, StartupFault
from tests.fakes.policy_desk import ask_change, change_code, next_policy, people, transfer_code
from tests.fakes.signer_desk import Desk, make_key
from tests.fakes.signer_hsm import START, Crash
from tests.fakes.signer_people import (
    RECEIVER,
    approve,
    make_change,
    make_policy,
    make_rule,
)

COOL_DOWN_S = 3600
TWO = [{"group": "treasury", "threshold": 2}]
SLOW = {"approvals": TWO, "cool_down_s": COOL_DOWN_S}


# --- when ---------------------------------------------------------------------------------------------------------------


def test_a_change_waits_for_its_cool_down_and_then_is_in_force(make_signer: Callable[..., Desk]) -> None:
    signer = make_signer(governance=SLOW)
    decider = signer.start()
    make_key(decider)
    request = ask_change(next_policy(governance=SLOW), "alice", "bob")
    changed = decider.change_policy(request)
    assert changed.effective_at == START + COOL_DOWN_S
    assert decider.change_policy(request) == changed
    waiting = decider.show_policy()
    assert (waiting.version, [one.version for one in waiting.pending]) == (1, [2])
    assert waiting.pending[0].intent == request.intent
    signer.token.now = START + COOL_DOWN_S - 1
    assert transfer_code(decider) == ""
    decider = signer.start()
    assert decider.show_policy().pending == waiting.pending
    signer.token.now = START + COOL_DOWN_S
    assert transfer_code(decider) == "wrong_policy_version"
    assert decider.show_policy().pending == ()
    assert decider.change_policy(request) == changed
    assert signer.start().health().policy_version == 2


def test_an_address_that_waits_is_not_listed_yet(make_signer: Callable[..., Desk]) -> None:
    allow = [make_rule("banks", destinations=["@banks"]), *make_policy()["allow"][2:]]  # type: ignore[index]
    signer = make_signer(allow=allow, address_book={"banks": []}, governance=SLOW)
    decider = signer.start()
    make_key(decider)
    book = {"banks": [{"chain": "eip155:31337", "address": RECEIVER, "label": "a bank"}]}
    document = next_policy(allow=allow, address_book=book, governance=SLOW)
    decider.change_policy(ask_change(document, "alice", "bob"))
    signer.token.now = START + COOL_DOWN_S - 1
    assert transfer_code(decider) == "no_rule"
    signer.token.now = START + COOL_DOWN_S
    assert transfer_code(decider, 2) == ""


def test_any_approver_can_veto_a_change_that_waits(make_signer: Callable[..., Desk]) -> None:
    signer = make_signer(governance=SLOW)
    decider = signer.start()
    request = ask_change(next_policy(), "alice", "bob")
    decider.change_policy(request)
    with pytest.raises(Refusal, match="no_veto"):
        decider.veto(Veto(intent=request.intent, approvals=approve(request.intent, "carol")))
    veto = Veto(intent=request.intent, approvals=approve(request.intent, "carol", decision="reject"))
    assert decider.veto(veto) == decider.veto(veto)
    assert decider.show_policy().pending == ()
    signer.token.now = START + COOL_DOWN_S
    decider = signer.start()
    assert decider.health().policy_version == 1
    assert change_code(decider, request) in ("vetoed", "expired")
    again = ask_change(next_policy(), "alice", "bob", now=signer.token.now)
    assert decider.change_policy(again).version == 2


def test_a_change_in_force_can_no_longer_be_vetoed(decider: Decider) -> None:
    request = ask_change(next_policy(), "alice", "bob")
    decider.change_policy(request)
    with pytest.raises(Refusal, match="already_done"):
        decider.veto(
            Veto(intent=request.intent, approvals=approve(request.intent, "carol", decision="reject"))
        )


def test_one_change_waits_at_a_time(make_signer: Callable[..., Desk]) -> None:
    decider = make_signer(governance=SLOW).start()
    decider.change_policy(ask_change(next_policy(), "alice", "bob"))
    assert change_code(decider, ask_change(next_policy(networks={}), "alice", "bob")) == "policy_pending"


def test_explain_tells_how_a_change_stands(make_signer: Callable[..., Desk]) -> None:
    decider = make_signer(governance=SLOW).start()
    request = ask_change(next_policy(), "alice", "bob")

    def told(*names: str) -> tuple[str, str, int, int]:
        found = decider.explain(Explain(intent=request.intent, approvals=approve(request.intent, *names)))
        missing = sum(one.threshold - len(one.counted) for one in found.groups)
        return found.verdict, found.code, missing, found.ready_at

    assert told("alice") == ("wait", "quorum_missing", 1, 0)
    assert told("alice", "bob") == ("allow", "ok", 0, 0)
    decider.change_policy(request)
    assert told("alice", "bob") == ("wait", "cooling_down", 0, START + COOL_DOWN_S)


# --- approvers ------------------------------------------------------------------------------------------------------------


def test_approvals_given_under_the_old_set_no_longer_verify(decider: Decider) -> None:
    make_key(decider)
    document = next_policy(
        approvers=people("alice", "bob"), approver_set_version=2, allow=make_policy()["allow"]
    )
    decider.change_policy(ask_change(document, "alice", "bob"))
    assert transfer_code(decider, 2) == "bad_approval_signature"
    assert transfer_code(decider, 2, "alice", "carol", set_version=2) == "unknown_approver"
    assert transfer_code(decider, 2, set_version=2) == ""


def test_a_superseded_quorum_changes_nothing_any_more(decider: Decider) -> None:
    document = next_policy(approvers=people("carol", "dave"), approver_set_version=2)
    decider.change_policy(ask_change(document, "alice", "bob"))
    data = governance.encode(make_change(next_policy(version=3), START, policy_version=2, version=3))
    for version, code in ((1, "unknown_approver"), (2, "unknown_approver")):
        votes = approve(data, "alice", "bob", version=version)
        request = ChangePolicy(intent=data, document=next_policy(version=3), approvals=votes)
        assert change_code(decider, request) == code


def test_who_comes_back_needs_a_new_signature(decider: Decider) -> None:
    document = next_policy(version=4, approver_set_version=3)
    data = governance.encode(make_change(document, START, policy_version=3, version=4))
    old = approve(data, "carol", "bob")
    decider.change_policy(
        ask_change(next_policy(approvers=people("alice", "bob"), approver_set_version=2), "alice", "bob")
    )
    back = next_policy(version=3, approver_set_version=3)
    step = governance.encode(make_change(back, START, policy_version=2, version=3))
    votes = approve(step, "alice", "bob", version=2)
    decider.change_policy(ChangePolicy(intent=step, document=back, approvals=votes))
    request = ChangePolicy(intent=data, document=document, approvals=old)
    assert change_code(decider, request) == "bad_approval_signature"


# --- across starts --------------------------------------------------------------------------------------------------------


def test_the_policy_survives_a_restart_with_without_and_against_the_file(
    make_signer: Callable[..., Desk],
) -> None:
    signer = make_signer()
    decider = signer.start()
    document = next_policy()
    decider.change_policy(ask_change(document, "alice", "bob"))
    assert signer.start().health().policy_version == 2
    signer.policy = json.loads(document)
    assert signer.start().health().policy_version == 2
    signer.policy = None
    assert signer.start().health().policy_version == 2
    signer.policy = make_policy(version=3)
    with pytest.raises(EvidenceFault, match="policy file"):
        signer.start()


def test_nothing_is_adopted_over_another_hands_anchor(make_signer: Callable[..., Desk]) -> None:
    signer = make_signer(governance=SLOW)
    decider = signer.start()
    make_key(decider)
    older = dict(signer.token.texts)
    request = ask_change(next_policy(), "alice", "bob")
    decider.change_policy(request)
    signer.token.texts = dict(older)
    signer.token.now = START + COOL_DOWN_S
    with pytest.raises(Refusal, match="anchor_mismatch"):
        decider.show_policy()
    with pytest.raises(Refusal, match="anchor_mismatch"):
        decider.explain(Explain(intent=request.intent, approvals=()))
    assert signer.token.texts == older


def test_the_first_start_needs_a_policy(make_signer: Callable[..., Desk]) -> None:
    signer = make_signer()
    signer.policy = None
    with pytest.raises(StartupFault, match="first start"):
        signer.start()
    signer.policy = make_policy(allow={})
    with pytest.raises(StartupFault, match="not valid"):
        signer.start()
    signer.policy = make_policy()
    assert signer.start().health().policy_version == 1


def test_a_token_that_has_served_takes_no_second_first_policy(make_signer: Callable[..., Desk]) -> None:
    signer = make_signer()
    signer.start()
    assert signer.record is not None
    signer.record.close()
    signer.record = None
    (signer.directory / FILE_NAME).unlink()
    signer.policy = make_policy(approvers=people("mallory", "eve", "oscar"))
    with pytest.raises(EvidenceFault, match="shorter"):
        signer.start()


def test_a_death_at_any_moment_of_a_change_leaves_the_old_or_the_new_policy(
    make_signer: Callable[..., Desk],
) -> None:
    request = ask_change(next_policy(), "alice", "bob")
    seen = set()
    for crash_at in range(1, 20):
        signer = make_signer()
        decider = signer.start()
        signer.token.crash_at = crash_at
        try:
            decider.change_policy(request)
        except Crash:
            version = signer.start().health().policy_version
            seen.add(version)
            assert signer.start().change_policy(request).version == 2
            assert signer.start().health().policy_version == 2
        else:
            break
    assert seen == {1, 2}


def test_every_version_can_be_read_again(make_signer: Callable[..., Desk]) -> None:
    decider = make_signer(governance=SLOW).start()
    document = next_policy()
    decider.change_policy(ask_change(document, "alice", "bob"))
    assert decider.policy_document(GetPolicyDocument(version=2)).document == document
    assert json.loads(decider.policy_document(GetPolicyDocument(version=1)).document)["version"] == 1
    with pytest.raises(Refusal, match="unknown_policy"):
        decider.policy_document(GetPolicyDocument(version=3))


def test_a_repeated_change_has_to_bring_the_document_that_it_names(make_signer: Callable[..., Desk]) -> None:
    decider = make_signer(governance=SLOW).start()
    request = ask_change(next_policy(), "alice", "bob")
    accepted = decider.change_policy(request)
    assert decider.change_policy(request) == accepted
    assert change_code(decider, replace(request, document=next_policy(version=3))) == "bad_policy"
