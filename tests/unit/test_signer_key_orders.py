"""No key is made and none changes its state unless a rule says so; only an active key signs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from signer.answers import answer
from signer.decide import Decider
from signer.key_states import TRANSITIONS
from signer.protocol import canonical, governance
from signer.protocol.governance import KEY_STATES, KeyIntent
from signer.protocol.messages import (
    ChangeKey,
    CreateKey,
    Explain,
    Explained,
    KeyView,
    ListKeys,
    SignCheckpoint,
    Veto,
)
from signer.refusal import HsmFault, Refusal
from tests.fakes.signer_desk import Desk, approved, code_of, make_key
from tests.fakes.signer_hsm import START
from tests.fakes.signer_kinds import make_kind
from tests.fakes.signer_people import (
    approve,
    bind_evm,
    make_change,
    make_key_create,
    make_key_rule,
    make_key_state,
    make_policy,
    make_rule,
    make_transfer,
)

ASKED = CreateKey(request_id="r", org="acme", vault="hot", curve="secp256k1", label="one")


def state_rule(**changes: object) -> dict[str, object]:
    named = {"kind": "key_state", "chain": "secp256k1", "asset": "none", "amount_max": "0", "fee_max": "0"}
    return make_rule("states", **{**named, **changes})


def people_rule(**changes: object) -> dict[str, object]:
    return make_key_rule("secp256k1", id="by-people", approvals=asks(2), **changes)


def asks(threshold: int) -> list[dict[str, object]]:
    return [{"group": "treasury", "threshold": threshold}]


@pytest.fixture
def desk(make_signer: Callable[..., Desk]) -> Desk:
    """Keys are made by machine, and their states are changed by two people, whatever the curve."""
    allow: Any = make_policy()["allow"]
    ed25519 = {**state_rule(), "id": "states-ed25519", "chain": "ed25519"}
    return make_signer(allow=[*allow, state_rule(), ed25519])


def change(decider: Decider, intent: KeyIntent, *names: str) -> KeyView:
    data = governance.encode(intent)
    return decider.keyring.change_key(
        ChangeKey(intent=data, approvals=approve(data, *(names or ("alice", "bob"))))
    )


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(Refusal) as caught:
        act()
    return caught.value.code


# --- creation ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allow", "code"),
    [
        ([], "no_rule"),
        ([make_rule("all", chain="*")], "no_rule"),
        ([make_key_rule("ed25519")], "no_rule"),
        ([make_key_rule("secp256k1", org="other")], "no_rule"),
        ([make_key_rule("secp256k1", vault="cold")], "no_rule"),
        ([make_key_rule("secp256k1", destinations=["pre_activation"])], "no_rule"),
        ([people_rule()], "quorum_missing"),
    ],
)
def test_a_key_that_no_automatic_rule_allows_is_not_made(
    make_signer: Callable[..., Desk], allow: list[dict[str, object]], code: str
) -> None:
    signer = make_signer(allow=allow)
    decider = signer.start()
    assert refused(lambda: decider.keyring.create_key(ASKED)) == code
    assert signer.token.calls == []
    assert decider.health().keys == 0


def test_an_automatic_rule_counts_the_keys_it_made_whoever_they_were_for(
    make_signer: Callable[..., Desk],
) -> None:
    window = {"seconds": 100, "amount_max": "0", "count_max": 2}
    signer = make_signer(allow=[make_key_rule("secp256k1", windows=[window])])
    decider = signer.start()
    for number in range(2):
        decider.keyring.create_key(replace(ASKED, request_id=f"r{number}", org=f"org{number}"))
    assert refused(lambda: decider.keyring.create_key(ASKED)) == "over_velocity"
    assert decider.keyring.create_key(replace(ASKED, request_id="r1", org="org1")).org == "org1"
    decider = signer.start()
    signer.token.now = START + 100
    assert refused(lambda: decider.keyring.create_key(ASKED)) == "over_velocity"
    signer.token.now = START + 101
    assert decider.keyring.create_key(ASKED).state == "active"


def test_people_make_a_key_where_a_rule_asks_them(make_signer: Callable[..., Desk]) -> None:
    signer = make_signer(allow=[people_rule(vault="cold")])
    decider = signer.start()
    intent = make_key_create(START)
    assert refused(lambda: change(decider, intent, "alice")) == "quorum_missing"
    key = change(decider, intent)
    assert (key.org, key.vault, key.curve, key.state) == ("acme", "cold", "secp256k1", "active")
    signer.token.now = START + 10_000
    assert change(decider, intent, "alice") == key
    assert signer.start().keyring.list_keys(ListKeys(org="acme")).keys == (key,)
    other = replace(intent, label="two")
    assert refused(lambda: change(decider, other)) == "key_exists_different"


def test_a_key_that_the_hsm_failed_to_make_is_made_by_the_same_intent(
    make_signer: Callable[..., Desk],
) -> None:
    signer = make_signer(allow=[people_rule()])
    decider = signer.start()
    intent = make_key_create(START)
    signer.token.failing = "generate"
    with pytest.raises(HsmFault):
        change(decider, intent)
    signer.token.failing = ""
    assert change(decider, intent).state == "active"
    assert decider.health().keys == 1


def test_a_vetoed_key_is_never_made(make_signer: Callable[..., Desk]) -> None:
    decider = make_signer(allow=[people_rule()]).start()
    intent = make_key_create(START)
    data = governance.encode(intent)
    decider.veto(Veto(intent=data, approvals=approve(data, "carol", decision="reject")))
    assert refused(lambda: change(decider, intent)) == "vetoed"
    made = make_key_create(START)
    change(decider, made)
    data = governance.encode(made)
    late = Veto(intent=data, approvals=approve(data, "carol", decision="reject"))
    assert refused(lambda: decider.veto(late)) == "already_done"


def test_a_key_born_before_its_activation_signs_nothing(make_signer: Callable[..., Desk]) -> None:
    allow = [make_rule("evm"), people_rule(), state_rule()]
    decider = make_signer(allow=allow).start()
    key = change(decider, make_key_create(START, state="pre_activation"))
    assert code_of(decider, approved(make_transfer(key, START), bind_evm(0))) == "key_not_active"
    assert change(decider, make_key_state(key, "active", START)).state == "active"
    assert decider.sign(approved(make_transfer(key, START), bind_evm(0)))


@pytest.mark.parametrize("role", ["requester", "observer"])
def test_only_an_operator_changes_keys_and_policy(desk: Desk, role: str) -> None:
    decider = desk.start()
    data = governance.encode(make_key_create(START))
    asked = ChangeKey(intent=data, approvals=approve(data, "alice", "bob"))
    assert refused(lambda: answer(decider, frozenset({role}), asked)) == "forbidden"


def test_a_change_of_the_policy_is_none_of_a_key(desk: Desk) -> None:
    assert refused(lambda: change(desk.start(), make_change(b"x", START))) == "bad_request"  # type: ignore[arg-type]


# --- states --------------------------------------------------------------------------------------------------------------


def way_to(state: str) -> tuple[str, ...]:
    """Some states to go through from active to this one."""
    return {"pre_activation": (), "active": (), "suspended": ("suspended",)}.get(state, (state,))


@pytest.mark.parametrize("source", [state for state in KEY_STATES if state != "pre_activation"])
@pytest.mark.parametrize("target", KEY_STATES)
def test_a_key_goes_only_the_ways_of_the_table(desk: Desk, source: str, target: str) -> None:
    decider = desk.start()
    key = make_key(decider)
    for step in way_to(source):
        change(decider, make_key_state(key, step, START))
    if (source, target) in TRANSITIONS:
        assert change(decider, make_key_state(key, target, START)).state == target
        assert desk.start().keyring.public_key(key.key_id).state == target
    else:
        asked = make_key_state(key, target, START)
        assert refused(lambda: change(decider, asked)) == "bad_transition"
        assert decider.keyring.public_key(key.key_id).state == source


def test_destroyed_is_the_end_and_everything_leads_there() -> None:
    assert {source for source, target in TRANSITIONS if target == "destroyed"} == set(KEY_STATES) - {
        "destroyed"
    }
    assert not [target for source, target in TRANSITIONS if source == "destroyed"]


@pytest.mark.parametrize("state", ["suspended", "deactivated", "compromised", "destroyed"])
def test_only_an_active_key_signs(desk: Desk, state: str) -> None:
    decider = desk.start()
    key = make_key(decider)
    before = approved(make_transfer(key, START), bind_evm(0))
    signed = decider.sign(before)
    change(decider, make_key_state(key, state, START))
    assert code_of(decider, approved(make_transfer(key, START), bind_evm(1))) == "key_not_active"
    assert decider.sign(before) == signed
    assert code_of(desk.start(), approved(make_transfer(key, START), bind_evm(1))) == "key_not_active"


def test_a_suspended_key_signs_again_once_it_is_active(desk: Desk) -> None:
    decider = desk.start()
    key = make_key(decider)
    change(decider, make_key_state(key, "suspended", START))
    change(decider, make_key_state(key, "active", START))
    assert decider.sign(approved(make_transfer(key, START), bind_evm(0)))


def test_a_deactivated_key_sends_to_its_successor_and_to_nobody_else(desk: Desk) -> None:
    decider = desk.start()
    old, new = make_key(decider), make_key(decider, vault="next")
    change(decider, make_key_state(old, "deactivated", START, successor=new.key_id))
    assert decider.sign(approved(make_transfer(old, START, destination=new.address), bind_evm(0)))
    assert code_of(decider, approved(make_transfer(old, START), bind_evm(1))) == "key_not_active"
    change(decider, make_key_state(old, "destroyed", START))
    late = make_transfer(old, START, destination=new.address)
    assert code_of(decider, approved(late, bind_evm(1))) == "key_not_active"


@pytest.mark.parametrize(
    ("kind", "vault", "field", "code"),
    [
        ("stellar_channel_payment", "channels", "channel", "unknown_channel"),
        ("stellar_account_merge", "treasury", "destination", "foreign_destination"),
    ],
)
def test_a_key_that_is_not_active_lends_and_receives_nothing(
    desk: Desk, kind: str, vault: str, field: str, code: str
) -> None:
    decider = desk.start()
    source, other = make_key(decider, "ed25519"), make_key(decider, "ed25519", vault=vault)
    intent = make_kind(kind, source, START, **{field: other.address})
    data = canonical.encode(intent)
    asked = Explain(intent=data, approvals=approve(data, "alice", "bob"))
    assert decider.explain(asked).code in ("ok", "no_rule")
    change(decider, make_key_state(other, "compromised", START))
    assert decider.explain(asked).code == code


def test_a_successor_is_an_active_key_of_the_same_org_and_curve(desk: Desk) -> None:
    decider = desk.start()
    old = make_key(decider)
    foreign, stellar = make_key(decider, org="other"), make_key(decider, "ed25519")
    asleep = make_key(decider, vault="asleep")
    change(decider, make_key_state(asleep, "suspended", START))
    for heir in (foreign.key_id, stellar.key_id, asleep.key_id, "0" * 32):
        asked = make_key_state(old, "deactivated", START, successor=heir)
        assert refused(lambda asked=asked: change(decider, asked)) == "bad_successor"
    for state, heir in (("suspended", foreign.key_id), ("deactivated", old.key_id)):
        with pytest.raises(canonical.MalformedIntent, match="successor"):
            governance.encode(make_key_state(old, state, START, successor=heir))


def test_one_rule_may_let_few_suspend_and_another_many_reactivate(make_signer: Callable[..., Desk]) -> None:
    allow = [
        make_key_rule("secp256k1"),
        {**state_rule(destinations=["suspended"], approvals=asks(1)), "id": "stop"},
        {**state_rule(destinations=["active"], approvals=asks(3)), "id": "go"},
    ]
    decider = make_signer(allow=allow).start()
    key = make_key(decider)
    assert change(decider, make_key_state(key, "suspended", START), "carol").state == "suspended"
    again = make_key_state(key, "active", START)
    assert refused(lambda: change(decider, again)) == "quorum_missing"
    assert change(decider, again, "alice", "bob", "carol").state == "active"
    assert refused(lambda: change(decider, make_key_state(key, "destroyed", START))) == "no_rule"


def test_a_key_of_another_org_or_vault_does_not_change(desk: Desk) -> None:
    decider = desk.start()
    key = make_key(decider)
    for changes in ({"org": "evil"}, {"vault": "cold"}, {"key_id": "0" * 32}):
        asked = make_key_state(key, "suspended", START, **changes)
        assert refused(lambda asked=asked: change(decider, asked)) == "unknown_key"


def test_the_same_change_again_changes_nothing(desk: Desk) -> None:
    decider = desk.start()
    key = make_key(decider)
    asked = make_key_state(key, "suspended", START)
    assert change(decider, asked) == change(decider, asked)
    change(decider, make_key_state(key, "active", START))
    assert change(decider, asked).state == "active"


def test_a_checkpoint_key_that_is_not_active_signs_no_checkpoint(desk: Desk) -> None:
    decider = desk.start()
    key = make_key(decider, "ed25519", vault="checkpoints")
    asked = SignCheckpoint(key_id=key.key_id, org=key.org, sequence=1, hash=bytes(32))
    decider.sign_checkpoint(asked)
    change(decider, make_key_state(key, "compromised", START))
    assert refused(lambda: decider.sign_checkpoint(replace(asked, sequence=2))) == "key_not_active"


def test_explain_tells_what_a_key_intent_lacks(desk: Desk) -> None:
    decider = desk.start()
    key = make_key(decider)

    def told(intent: KeyIntent, *names: str) -> Explained:
        data = governance.encode(intent)
        return decider.explain(Explain(intent=data, approvals=approve(data, *names)))

    stopped = told(make_key_state(key, "suspended", START), "bob")
    assert (stopped.verdict, stopped.code, stopped.rule) == ("wait", "quorum_missing", "states")
    assert told(make_key_state(key, "pre_activation", START)).code == "bad_transition"
    assert told(make_key_create(START)).code == "ok"
