"""A5, A6 and A13: the approvers or their number change between the approval and the signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from signer.protocol import governance
from signer.protocol.messages import ChangePolicy
from tests.fakes.policy_desk import ask_change, next_policy, people
from tests.fakes.signer_people import approve, make_change, make_policy
from tests.redteam.conftest import ProcessAttack, changed
from tests.redteam.office import ask, now, transfer

ASK_ONE = [{"group": "treasury", "threshold": 1}]
RULES: Any = make_policy()["allow"]


def test_a5_an_approver_who_was_revoked_before_the_signature(
    attack_on: Callable[..., ProcessAttack],
) -> None:
    attack = attack_on()
    key = attack.makes_key()
    old, new = transfer(key), transfer(key, policy_version=2)
    given = {data: approve(data, "alice", "bob", "carol") for data in (old, new)}
    without = next_policy(approvers=people("alice", "bob"), approver_set_version=2, allow=RULES)
    attack.takes_policy(ask_change(without, "alice", "bob", now=now()))
    attack.refuses("wrong_policy_version", ask(old, *given[old]))
    attack.refuses("bad_approval_signature", ask(new, *given[new]))
    attack.refuses("unknown_approver", ask(new, *approve(new, "alice", "carol", version=2)))
    attack.owes(attack.signer.ask(ask(new, *approve(new, "alice", "bob", version=2))))


def test_a6_a_signature_from_before_an_approver_left_and_came_back(
    attack_on: Callable[..., ProcessAttack],
) -> None:
    attack = attack_on()
    data = transfer(attack.makes_key(), policy_version=3)
    old = approve(data, "alice", "carol")
    without = next_policy(approvers=people("alice", "bob"), approver_set_version=2)
    attack.takes_policy(ask_change(without, "alice", "bob", now=now()))
    back = next_policy(version=3, approver_set_version=3, allow=RULES)
    step = governance.encode(make_change(back, now(), policy_version=2, version=3))
    attack.takes_policy(
        ChangePolicy(intent=step, document=back, approvals=approve(step, "alice", "bob", version=2))
    )
    attack.refuses("bad_approval_signature", ask(data, *old))
    attack.refuses("bad_approval_signature", ask(data, *approve(data, "alice", "carol", version=2)))
    attack.owes(attack.signer.ask(ask(data, *approve(data, "alice", "carol", version=3))))


def test_a13_a_threshold_that_sinks_while_an_intent_waits(attack_on: Callable[..., ProcessAttack]) -> None:
    """What one person approved while two were asked is not carried out once one suffices."""
    attack = attack_on()
    key = attack.makes_key()
    waiting = transfer(key)
    attack.refuses("quorum_missing", ask(waiting, *approve(waiting, "alice")))
    lower = [{**rule, "approvals": ASK_ONE if rule["approvals"] else []} for rule in RULES]
    attack.takes_policy(ask_change(next_policy(allow=lower), "alice", "bob", now=now()))
    attack.refuses("wrong_policy_version", ask(waiting, *approve(waiting, "alice")))
    renamed = changed(waiting, policy_version=2)
    attack.refuses("bad_approval_signature", ask(renamed, *approve(waiting, "alice")))
    attack.owes(attack.signer.ask(ask(renamed, *approve(renamed, "alice"))))
