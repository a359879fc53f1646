"""The life of a policy: adopted once, changed only by its own quorum, after its cool-down, never backwards."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from signer.decide import Decider
from signer.protocol import canonical, governance
from signer.protocol.approvals import APPROVAL_TAG, GOVERNANCE_TAG, approval_message
from signer.protocol.governance import PolicyChange
from signer.protocol.messages import (
    ChangePolicy,
    Explain,
    GetPolicyDocument,
    Sign,
    Veto,
)
from signer.refusal import EvidenceFault, Refusal, StartupFault
from tests.fakes.signer_desk import Desk, code_of, make_key
from tests.fakes.signer_hsm import START, Crash
from tests.fakes.signer_people import (
    RECEIVER,
    approve,
    approver_key,
    bind_evm,
    make_change,
    make_policy,
    make_rule,
    make_transfer,
    policy_bytes,
    public_hex,
)

SPEC = Path(governance.__file__).with_name("SPEC.md")
COOL_DOWN_S = 3600
TWO = [{"group": "treasury", "threshold": 2}]
SLOW = {"approvals": TWO, "cool_down_s": COOL_DOWN_S}


def people(*names: str) -> list[dict[str, object]]:
    return [{"id": name, "keys": [public_hex(approver_key(name))], "groups": ["treasury"]} for name in names]


def second(**changes: object) -> bytes:
    """The next document; by default it forbids everything."""
    return policy_bytes(make_policy(**{"version": 2, "allow": [], **changes}))


def asked(document: bytes, *names: str, now: int = START, **changes: Any) -> ChangePolicy:
    data = governance.encode(make_change(document, now, **changes))
    return ChangePolicy(intent=data, document=document, approvals=approve(data, *names))


def refused(decider: Decider, request: ChangePolicy) -> str:
    with pytest.raises(Refusal) as caught:
        decider.change_policy(request)
    return caught.value.code


def transfer_code(decider: Decider, version: int = 1, *names: str, set_version: int = 1) -> str:
    """What a transfer under this policy version gets: "" for a signature."""
    key = make_key(decider)
    data = canonical.encode(make_transfer(key, START, policy_version=version, expires_at=START + 10**6))
    votes = approve(data, *(names or ("alice", "bob")), version=set_version)
    told = decider.explain(Explain(intent=data, approvals=votes))
    return "" if told.verdict == "allow" else told.code


# --- by whom -------------------------------------------------------------------------------------------------------------


def test_the_quorum_changes_the_policy(decider: Decider) -> None:
    make_key(decider)
    assert transfer_code(decider) == ""
    changed = decider.change_policy(asked(second(), "alice", "bob"))
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
    assert refused(decider, asked(second(), *names)) == code
    assert decider.show_policy() == before


def test_the_initiator_of_a_change_may_not_approve_it(decider: Decider) -> None:
    assert refused(decider, asked(second(), "alice", "bob", initiator="alice")) == "initiator_approved"


def test_one_who_rejects_ends_a_change_for_good(decider: Decider) -> None:
    request = asked(second(), "alice", "bob")
    votes = (*request.approvals, *approve(request.intent, "carol", decision="reject"))
    assert refused(decider, replace(request, approvals=votes)) == "vetoed"
    assert refused(decider, request) == "vetoed"


def test_an_approval_of_governance_is_none_of_a_transaction_and_the_other_way_round(decider: Decider) -> None:
    request = asked(second(), "alice", "bob")
    digest = governance.digest(request.intent)
    as_money = [
        replace(
            one,
            signature=approver_key(one.approver)
            .sign(
                approval_message(decision="approve", digest=digest, approver_set_version=1, tag=APPROVAL_TAG)
            )
            .hex(),
        )
        for one in request.approvals
    ]
    assert refused(decider, replace(request, approvals=tuple(as_money))) == "bad_approval_signature"
    data = canonical.encode(make_transfer(make_key(decider), START))
    as_governance = [
        replace(
            one,
            signature=approver_key(one.approver)
            .sign(
                approval_message(
                    decision="approve",
                    digest=canonical.digest(data),
                    approver_set_version=1,
                    tag=GOVERNANCE_TAG,
                )
            )
            .hex(),
        )
        for one in approve(data, "alice", "bob")
    ]
    spent = Sign(intent=data, approvals=tuple(as_governance), binding=bind_evm(0))
    assert code_of(decider, spent) == "bad_approval_signature"


def test_no_transaction_is_made_of_a_governance_intent(decider: Decider) -> None:
    request = asked(second(), "alice", "bob")
    spent = Sign(intent=request.intent, approvals=request.approvals, binding=bind_evm(0))
    assert code_of(decider, spent) == "malformed_intent"
    data = canonical.encode(make_transfer(make_key(decider), START))
    assert refused(decider, replace(request, intent=data)) == "malformed_intent"


# --- to what ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        b"{}",
        second(version=1),
        second(version=3),
        second(approver_set_version=2),
        second(approvers=people("alice", "bob")),
        second(approvers=people("alice", "bob"), approver_set_version=3),
        second(approvers=people("alice"), approver_set_version=2),
        second(governance={"approvals": [{"group": "treasury", "threshold": 4}], "cool_down_s": 0}),
        second(governance={"approvals": [], "cool_down_s": 0}),
        second(allow=[make_rule("r", approvals=[{"group": "treasury", "threshold": 4}])]),
    ],
)
def test_a_document_that_is_invalid_out_of_step_or_locks_everybody_out_is_refused(
    decider: Decider, document: bytes
) -> None:
    assert refused(decider, asked(document, "alice", "bob")) == "bad_policy"
    assert decider.health().policy_version == 1


def test_another_document_than_the_approved_one_is_refused(decider: Decider) -> None:
    request = asked(second(), "alice", "bob")
    weaker = second(allow=[make_rule("r", approvals=[{"group": "treasury", "threshold": 1}])])
    assert refused(decider, replace(request, document=weaker)) == "bad_policy"


@pytest.mark.parametrize("versions", [(1, 3), (1, 1), (2, 2), (2, 1)])
def test_a_version_cannot_be_skipped_or_repeated(versions: tuple[int, int]) -> None:
    now, new = versions
    with pytest.raises(canonical.MalformedIntent, match="out_of_range version"):
        governance.encode(make_change(second(), START, policy_version=now, version=new))


def test_a_change_made_under_another_version_is_refused(decider: Decider) -> None:
    document = second(version=3)
    early = asked(document, "alice", "bob", policy_version=2, version=3)
    assert refused(decider, early) == "wrong_policy_version"
    decider.change_policy(asked(second(), "alice", "bob"))
    other = second(deny=[], networks={})
    assert refused(decider, asked(other, "alice", "bob")) == "wrong_policy_version"
    assert decider.change_policy(early).version == 3


@pytest.mark.parametrize(
    ("window", "code"),
    [
        ({"not_before": START + 1, "expires_at": START + 2}, "not_yet"),
        ({"not_before": START - 2, "expires_at": START}, "expired"),
    ],
)
def test_a_change_has_a_window(decider: Decider, window: dict[str, int], code: str) -> None:
    assert refused(decider, asked(second(), "alice", "bob", **window)) == code


def test_the_quorum_may_weaken_itself_and_nobody_else_can(make_signer: Callable[..., Desk]) -> None:
    decider = make_signer().start()
    alone = second(
        approvers=people("alice"),
        approver_set_version=2,
        governance={"approvals": [{"group": "treasury", "threshold": 1}], "cool_down_s": 0},
    )
    assert refused(decider, asked(alone, "alice")) == "quorum_missing"
    assert decider.change_policy(asked(alone, "alice", "bob")).version == 2


# --- when ---------------------------------------------------------------------------------------------------------------


def test_a_change_waits_for_its_cool_down_and_then_is_in_force(make_signer: Callable[..., Desk]) -> None:
    signer = make_signer(governance=SLOW)
    decider = signer.start()
    make_key(decider)
    request = asked(second(governance=SLOW), "alice", "bob")
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
    document = second(allow=allow, address_book=book, governance=SLOW)
    decider.change_policy(asked(document, "alice", "bob"))
    signer.token.now = START + COOL_DOWN_S - 1
    assert transfer_code(decider) == "no_rule"
    signer.token.now = START + COOL_DOWN_S
    assert transfer_code(decider, 2) == ""


def test_any_approver_can_veto_a_change_that_waits(make_signer: Callable[..., Desk]) -> None:
    signer = make_signer(governance=SLOW)
    decider = signer.start()
    request = asked(second(), "alice", "bob")
    decider.change_policy(request)
    with pytest.raises(Refusal, match="no_veto"):
        decider.veto(Veto(intent=request.intent, approvals=approve(request.intent, "carol")))
    veto = Veto(intent=request.intent, approvals=approve(request.intent, "carol", decision="reject"))
    assert decider.veto(veto) == decider.veto(veto)
    assert decider.show_policy().pending == ()
    signer.token.now = START + COOL_DOWN_S
    decider = signer.start()
    assert decider.health().policy_version == 1
    assert refused(decider, request) in ("vetoed", "expired")
    again = asked(second(), "alice", "bob", now=signer.token.now)
    assert decider.change_policy(again).version == 2


def test_a_change_in_force_can_no_longer_be_vetoed(decider: Decider) -> None:
    request = asked(second(), "alice", "bob")
    decider.change_policy(request)
    with pytest.raises(Refusal, match="already_done"):
        decider.veto(
            Veto(intent=request.intent, approvals=approve(request.intent, "carol", decision="reject"))
        )


def test_one_change_waits_at_a_time(make_signer: Callable[..., Desk]) -> None:
    decider = make_signer(governance=SLOW).start()
    decider.change_policy(asked(second(), "alice", "bob"))
    assert refused(decider, asked(second(networks={}), "alice", "bob")) == "policy_pending"


def test_explain_tells_how_a_change_stands(make_signer: Callable[..., Desk]) -> None:
    decider = make_signer(governance=SLOW).start()
    request = asked(second(), "alice", "bob")

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
    document = second(approvers=people("alice", "bob"), approver_set_version=2, allow=make_policy()["allow"])
    decider.change_policy(asked(document, "alice", "bob"))
    assert transfer_code(decider, 2) == "bad_approval_signature"
    assert transfer_code(decider, 2, "alice", "carol", set_version=2) == "unknown_approver"
    assert transfer_code(decider, 2, set_version=2) == ""


def test_a_superseded_quorum_changes_nothing_any_more(decider: Decider) -> None:
    document = second(approvers=people("carol", "dave"), approver_set_version=2)
    decider.change_policy(asked(document, "alice", "bob"))
    data = governance.encode(make_change(second(version=3), START, policy_version=2, version=3))
    for version, code in ((1, "unknown_approver"), (2, "unknown_approver")):
        votes = approve(data, "alice", "bob", version=version)
        request = ChangePolicy(intent=data, document=second(version=3), approvals=votes)
        assert refused(decider, request) == code


def test_who_comes_back_needs_a_new_signature(decider: Decider) -> None:
    data = governance.encode(make_change(second(version=4), START, policy_version=3, version=4))
    old = approve(data, "carol", "bob")
    decider.change_policy(
        asked(second(approvers=people("alice", "bob"), approver_set_version=2), "alice", "bob")
    )
    back = second(version=3, approver_set_version=3)
    step = governance.encode(make_change(back, START, policy_version=2, version=3))
    votes = approve(step, "alice", "bob", version=2)
    decider.change_policy(ChangePolicy(intent=step, document=back, approvals=votes))
    request = ChangePolicy(intent=data, document=second(version=4, approver_set_version=3), approvals=old)
    assert refused(decider, request) == "bad_approval_signature"


# --- across starts --------------------------------------------------------------------------------------------------------


def test_the_policy_survives_a_restart_with_without_and_against_the_file(
    make_signer: Callable[..., Desk],
) -> None:
    signer = make_signer()
    decider = signer.start()
    document = second()
    decider.change_policy(asked(document, "alice", "bob"))
    assert signer.start().health().policy_version == 2
    signer.policy = json.loads(document)
    assert signer.start().health().policy_version == 2
    signer.policy = None
    assert signer.start().health().policy_version == 2
    signer.policy = make_policy(version=3)
    with pytest.raises(EvidenceFault, match="policy file"):
        signer.start()


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
    (signer.directory / "journal.jsonl").unlink()
    signer.policy = make_policy(approvers=people("mallory", "eve", "oscar"))
    with pytest.raises(EvidenceFault, match="shorter"):
        signer.start()


def test_a_death_at_any_moment_of_a_change_leaves_the_old_or_the_new_policy(
    make_signer: Callable[..., Desk],
) -> None:
    request = asked(second(), "alice", "bob")
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
    document = second()
    decider.change_policy(asked(document, "alice", "bob"))
    assert decider.policy_document(GetPolicyDocument(version=2)).document == document
    assert json.loads(decider.policy_document(GetPolicyDocument(version=1)).document)["version"] == 1
    with pytest.raises(Refusal, match="unknown_policy"):
        decider.policy_document(GetPolicyDocument(version=3))


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
    data = governance.encode(make_change(second(), START))
    assert isinstance(governance.decode(data), PolicyChange)
    with pytest.raises(canonical.MalformedIntent):
        governance.decode(spoil(data))


def test_the_specification_shows_a_vector_that_holds() -> None:
    section = SPEC.read_text().partition("## 8. Governance intents")[2]
    shown = section.partition("Vector:\n```\n")[2].splitlines()
    data = shown[0].encode()
    digest = governance.digest(data)
    assert isinstance(governance.decode(data), PolicyChange)
    assert shown[1].endswith(digest.hex())
    for word, line in (("approve", shown[2]), ("reject", shown[3])):
        message = approval_message(decision=word, digest=digest, approver_set_version=1, tag=GOVERNANCE_TAG)
        assert line.endswith(message.hex())
