"""What the policy says: deny first, then the first rule that holds the intent, people and not signatures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from custody.policy.evaluate import evaluate
from custody.policy.model import (
    AddressList,
    AllowRule,
    ApprovalPolicy,
    Approver,
    ApproverKey,
    Decision,
    Demand,
    Facts,
    Governance,
    ListedAddress,
    Scope,
    Standing,
    Window,
    Word,
)

ANYTHING = Scope(id="any", org="*", vault="*", key="*", chain="*", kind="*", asset="*", destinations=("*",))
SMALL = AllowRule(
    scope=replace(ANYTHING, id="small"),
    amount_max=10,
    fee_max=5,
    windows=(),
    hours=(),
    approvals=(Demand(group="desk", threshold=1),),
    cool_down_s=0,
)
LARGE = AllowRule(
    scope=replace(ANYTHING, id="large"),
    amount_max=100,
    fee_max=50,
    windows=(Window(seconds=60, amount_max=90, count_max=9),),
    hours=(),
    approvals=(Demand(group="board", threshold=2),),
    cool_down_s=0,
)
PEOPLE = tuple(
    Approver(id=name, keys=(ApproverKey(algorithm="ed25519", public_key=name, passkey=None),), groups=groups)
    for name, groups in (
        ("ada", ("desk", "board")),
        ("bob", ("board",)),
        ("cyd", ("board",)),
        ("dee", ("desk",)),
    )
)
POLICY = ApprovalPolicy(
    version=3,
    approver_set_version=1,
    policy_hash="",
    approvers=PEOPLE,
    address_book=(
        AddressList(
            name="banks",
            entries=(ListedAddress(chain="stellar:devnet", address="G", label="a bank"),),
        ),
    ),
    governance=Governance(approvals=(Demand(group="board", threshold=2),), cool_down_s=0),
    deny=(replace(ANYTHING, id="burn", destinations=("0xdead",)),),
    allow=(SMALL, LARGE),
)
FACTS = Facts(
    org="tenant-1",
    vault="omnibus",
    key="00",
    chain="stellar:devnet",
    kind="stellar_payment",
    asset="native",
    destination="G",
    amount=10,
    fee_max=5,
    initiator="maker",
    policy_version=3,
)


def say(*names: str, word: Word = Word.APPROVE) -> list[Decision]:
    return [Decision(approver=name, public_key=name, word=word, signature="") for name in names]


@pytest.mark.parametrize(
    ("facts", "decisions", "standing", "rule", "missing"),
    [
        (FACTS, [], Standing.PENDING, "small", 1),
        (FACTS, say("ada"), Standing.APPROVED, "small", 0),
        (FACTS, say("bob"), Standing.PENDING, "small", 1),
        (replace(FACTS, amount=11), say("ada"), Standing.PENDING, "large", 1),
        (replace(FACTS, fee_max=6), say("ada", "bob"), Standing.APPROVED, "large", 0),
        (replace(FACTS, amount=90), say("bob", "cyd"), Standing.APPROVED, "large", 0),
        (replace(FACTS, amount=11), say("bob", "bob"), Standing.PENDING, "large", 1),
        (replace(FACTS, amount=11, initiator="bob"), say("bob", "cyd"), Standing.PENDING, "large", 1),
        (FACTS, [*say("ada"), *say("dee", word=Word.REJECT)], Standing.REJECTED, "", 0),
        (replace(FACTS, initiator="dee"), say("dee", word=Word.REJECT), Standing.REJECTED, "", 0),
        (FACTS, say("stranger", word=Word.REJECT), Standing.PENDING, "small", 1),
        (replace(FACTS, destination="0xdead"), say("ada"), Standing.DENIED, "burn", 0),
    ],
)
def test_standing(facts: Facts, decisions: list[Decision], standing: Standing, rule: str, missing: int):
    verdict = evaluate(POLICY, facts, decisions)
    assert (verdict.standing, verdict.rule, verdict.missing) == (standing, rule, missing)


@pytest.mark.parametrize(
    ("into", "rule"), [("omnibus", "inward"), ("deposit", "small"), ("", "small"), ("omnibu", "small")]
)
def test_a_rule_for_one_vault_of_ours_covers_sweeps_into_it_and_nothing_else(into: str, rule: str):
    scope = replace(ANYTHING, id="inward", destinations=("vault:omnibus",))
    policy = replace(POLICY, allow=(replace(SMALL, scope=scope, approvals=()), SMALL))
    assert evaluate(policy, replace(FACTS, into_vault=into), ()).rule == rule


def test_a_rule_for_every_kind_does_not_allow_what_needs_its_own_but_forbids_it():
    own = replace(FACTS, needs_own_rule=True)
    named = replace(SMALL, scope=replace(ANYTHING, id="named", kind=FACTS.kind))
    every = replace(LARGE, scope=replace(ANYTHING, id="every"))
    assert evaluate(replace(POLICY, allow=(every,)), own, ()).reason == "no_rule"
    assert evaluate(replace(POLICY, allow=(every, named)), own, ()).rule == "named"
    assert evaluate(POLICY, replace(own, destination="0xdead"), ()).reason == "denied_by_rule"


@pytest.mark.parametrize(
    ("policy", "facts", "reason"),
    [
        (POLICY, replace(FACTS, amount=101), "over_amount_cap"),
        (POLICY, replace(FACTS, fee_max=51), "over_fee_cap"),
        (POLICY, replace(FACTS, policy_version=2), "wrong_policy_version"),
        (POLICY, replace(FACTS, destination="0xdead"), "denied_by_rule"),
        (replace(POLICY, allow=()), FACTS, "no_rule"),
        (replace(POLICY, allow=(LARGE,)), replace(FACTS, amount=91), "over_velocity"),
    ],
)
def test_denials_name_their_reason(policy: ApprovalPolicy, facts: Facts, reason: str):
    assert evaluate(policy, facts, say("ada", "bob", "cyd", "dee")).reason == reason


@pytest.mark.parametrize("field", ["org", "vault", "key", "chain", "kind", "asset"])
def test_a_rule_covers_only_what_it_names(field: str):
    narrow = replace(SMALL, scope=replace(ANYTHING, id="narrow", **{field: "other"}))
    policy = replace(POLICY, allow=(narrow,))
    assert evaluate(policy, FACTS, say("ada")).standing is Standing.DENIED
    same = replace(narrow, scope=replace(narrow.scope, **{field: getattr(FACTS, field)}))
    assert evaluate(replace(policy, allow=(same,)), FACTS, say("ada")).standing is Standing.APPROVED


def test_a_list_covers_its_addresses_on_their_own_chain_only():
    rule = replace(SMALL, scope=replace(ANYTHING, id="banks", destinations=("@banks",)))
    policy = replace(POLICY, allow=(rule,))
    assert evaluate(policy, FACTS, say("ada")).standing is Standing.APPROVED
    for changes in ({"chain": "stellar:pubnet"}, {"destination": "H"}):
        assert evaluate(policy, replace(FACTS, **changes), say("ada")).standing is Standing.DENIED


@pytest.mark.parametrize(
    ("names", "counted", "missing"),
    [
        ((), ((), ()), 2),
        (("ada",), (("ada",), ()), 1),
        (("dee",), (("dee",), ()), 1),
        (("bob",), ((), ("bob",)), 1),
        (("ada", "dee"), (("dee",), ("ada",)), 0),
        (("ada", "bob"), (("ada",), ("bob",)), 0),
        (("bob", "cyd"), ((), ("bob",)), 1),
    ],
)
def test_a_person_of_two_groups_counts_in_one(
    names: tuple[str, ...], counted: tuple[tuple[str, ...], ...], missing: int
):
    rule = replace(SMALL, approvals=(Demand(group="desk", threshold=1), Demand(group="board", threshold=1)))
    verdict = evaluate(replace(POLICY, allow=(rule,)), FACTS, say(*names))
    assert tuple(each.counted for each in verdict.counts) == counted
    assert (verdict.missing, verdict.threshold) == (missing, 2)


def test_a_rule_that_asks_nobody_approves_at_once():
    policy = replace(POLICY, allow=(replace(SMALL, approvals=()),))
    assert evaluate(policy, FACTS, ()).standing is Standing.APPROVED
