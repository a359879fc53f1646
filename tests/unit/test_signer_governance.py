"""Who changes the policy, and into what: only its own quorum, one version on, and never into a lock-out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from signer.decide import Decider
from signer.protocol import canonical, governance
from signer.protocol.approvals import APPROVAL_TAG, GOVERNANCE_TAG, RawSignature, approval_message
from signer.protocol.governance import PolicyChange
from signer.protocol.messages import (
    Sign,
)
from tests.fakes.policy_desk import ask_change, change_code, next_policy, people, transfer_code
from tests.fakes.signer_desk import Desk, code_of, make_key
from tests.fakes.signer_hsm import START
from tests.fakes.signer_people import (
    approve,
    approver_key,
    bind_evm,
    make_change,
    make_rule,
    make_transfer,
)

SPEC = Path(governance.__file__).with_name("SPEC.md")


# --- by whom -------------------------------------------------------------------------------------------------------------


def test_the_quorum_changes_the_policy(decider: Decider) -> None:
    make_key(decider)
    assert transfer_code(decider) == ""
    changed = decider.change_policy(ask_change(next_policy(), "alice", "bob"))
    assert (changed.version, changed.effective_at) == (2, START)
    assert transfer_code(decider) == "wrong_policy_version"
    assert transfer_code(decider, 2) == "no_rule"
    assert decider.health().policy_version == 2


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ((), "quorum_missing"),
        (("alice",), "quorum_missing"),
        (("alice", "alice"), "duplicate_approver"),
        (("alice", "mallory"), "unknown_approver"),
    ],
)
def test_less_than_the_quorum_changes_nothing(decider: Decider, names: tuple[str, ...], code: str) -> None:
    before = decider.show_policy()
    assert change_code(decider, ask_change(next_policy(), *names)) == code
    assert decider.show_policy() == before


def test_the_initiator_of_a_change_may_not_approve_it(decider: Decider) -> None:
    assert (
        change_code(decider, ask_change(next_policy(), "alice", "bob", initiator="alice"))
        == "initiator_approved"
    )


def test_one_who_rejects_ends_a_change_for_good(decider: Decider) -> None:
    request = ask_change(next_policy(), "alice", "bob")
    votes = (*request.approvals, *approve(request.intent, "carol", decision="reject"))
    assert change_code(decider, replace(request, approvals=votes)) == "vetoed"
    assert change_code(decider, request) == "vetoed"


def test_an_approval_of_governance_is_none_of_a_transaction_and_the_other_way_round(decider: Decider) -> None:
    request = ask_change(next_policy(), "alice", "bob")
    digest = governance.digest(request.intent)
    as_money = [
        replace(
            one,
            evidence=RawSignature(
                signature=approver_key(one.approver).sign(
                    approval_message(
                        decision="approve", digest=digest, approver_set_version=1, tag=APPROVAL_TAG
                    )
                )
            ),
        )
        for one in request.approvals
    ]
    assert change_code(decider, replace(request, approvals=tuple(as_money))) == "bad_approval_signature"
    data = canonical.encode(make_transfer(make_key(decider), START))
    as_governance = [
        replace(
            one,
            evidence=RawSignature(
                signature=approver_key(one.approver).sign(
                    approval_message(
                        decision="approve",
                        digest=canonical.digest(data),
                        approver_set_version=1,
                        tag=GOVERNANCE_TAG,
                    )
                )
            ),
        )
        for one in approve(data, "alice", "bob")
    ]
    spent = Sign(intent=data, approvals=tuple(as_governance), binding=bind_evm(0))
    assert code_of(decider, spent) == "bad_approval_signature"


def test_no_transaction_is_made_of_a_governance_intent(decider: Decider) -> None:
    request = ask_change(next_policy(), "alice", "bob")
    spent = Sign(intent=request.intent, approvals=request.approvals, binding=bind_evm(0))
    assert code_of(decider, spent) == "malformed_intent"
    data = canonical.encode(make_transfer(make_key(decider), START))
    assert change_code(decider, replace(request, intent=data)) == "malformed_intent"


# --- to what ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        b"{}",
        next_policy(version=1),
        next_policy(version=3),
        next_policy(approver_set_version=2),
        next_policy(approvers=people("alice", "bob")),
        next_policy(approvers=people("alice", "bob"), approver_set_version=3),
        next_policy(approvers=people("alice"), approver_set_version=2),
        next_policy(governance={"approvals": [{"group": "treasury", "threshold": 4}], "cool_down_s": 0}),
        next_policy(governance={"approvals": [], "cool_down_s": 0}),
        next_policy(allow=[make_rule("r", approvals=[{"group": "treasury", "threshold": 4}])]),
    ],
)
def test_a_document_that_is_invalid_out_of_step_or_locks_everybody_out_is_refused(
    decider: Decider, document: bytes
) -> None:
    assert change_code(decider, ask_change(document, "alice", "bob")) == "bad_policy"
    assert decider.health().policy_version == 1


def test_another_document_than_the_approved_one_is_refused(decider: Decider) -> None:
    request = ask_change(next_policy(), "alice", "bob")
    weaker = next_policy(allow=[make_rule("r", approvals=[{"group": "treasury", "threshold": 1}])])
    assert change_code(decider, replace(request, document=weaker)) == "bad_policy"


@pytest.mark.parametrize("versions", [(1, 3), (1, 1), (2, 2), (2, 1)])
def test_a_version_cannot_be_skipped_or_repeated(versions: tuple[int, int]) -> None:
    now, new = versions
    with pytest.raises(canonical.MalformedIntent, match="out_of_range version"):
        governance.encode(make_change(next_policy(), START, policy_version=now, version=new))


def test_a_change_made_under_another_version_is_refused(decider: Decider) -> None:
    document = next_policy(version=3)
    early = ask_change(document, "alice", "bob", policy_version=2, version=3)
    assert change_code(decider, early) == "wrong_policy_version"
    decider.change_policy(ask_change(next_policy(), "alice", "bob"))
    other = next_policy(deny=[], networks={})
    assert change_code(decider, ask_change(other, "alice", "bob")) == "wrong_policy_version"
    assert decider.change_policy(early).version == 3


@pytest.mark.parametrize(
    ("window", "code"),
    [
        ({"not_before": START + 1, "expires_at": START + 2}, "not_yet"),
        ({"not_before": START - 2, "expires_at": START}, "expired"),
    ],
)
def test_a_change_has_a_window(decider: Decider, window: dict[str, int], code: str) -> None:
    assert change_code(decider, ask_change(next_policy(), "alice", "bob", **window)) == code


def test_the_quorum_may_weaken_itself_and_nobody_else_can(make_signer: Callable[..., Desk]) -> None:
    decider = make_signer().start()
    alone = next_policy(
        approvers=people("alice"),
        approver_set_version=2,
        governance={"approvals": [{"group": "treasury", "threshold": 1}], "cool_down_s": 0},
    )
    assert change_code(decider, ask_change(alone, "alice")) == "quorum_missing"
    assert decider.change_policy(ask_change(alone, "alice", "bob")).version == 2


# --- the intent's bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.replace(b'"v":"1"', b'"v":"2"'),
        lambda data: data.replace(b'"kind":"policy_change"', b'"kind":"policy_chance"'),
        lambda data: data.replace(b'"version":"2"', b'"version":"02"'),
        lambda data: data.replace(b'"version":"2"', b'"version":2'),
        lambda data: data.replace(b'"initiator":"maker",', b""),
        lambda data: data.replace(b'{"expires', b'{ "expires'),
        lambda data: data.replace(b'"v":"1"', b'"v":"1","x":"1"'),
        lambda data: data[:-1],
    ],
)
def test_a_governance_intent_has_no_twin(spoil: Callable[[bytes], bytes]) -> None:
    data = governance.encode(make_change(next_policy(), START))
    assert isinstance(governance.decode(data), PolicyChange)
    with pytest.raises(canonical.MalformedIntent):
        governance.decode(spoil(data))


def test_the_specification_shows_a_vector_that_holds() -> None:
    section = SPEC.read_text().partition("## 9. Governance intents")[2]
    shown = section.partition("Vector:\n```\n")[2].splitlines()
    data = shown[0].encode()
    digest = governance.digest(data)
    assert isinstance(governance.decode(data), PolicyChange)
    assert shown[1].endswith(digest.hex())
    for word, line in (("approve", shown[2]), ("reject", shown[3])):
        message = approval_message(decision=word, digest=digest, approver_set_version=1, tag=GOVERNANCE_TAG)
        assert line.endswith(message.hex())
