"""P15: the signer dies at the worst moment, whichever that is; nothing is signed twice and no order is half carried out."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from signer.protocol import governance
from signer.protocol.messages import ChangeKey, ChangePolicy, Refused, Response, Sign, Signed
from signer.protocol.wire import ConnectionEnded, MalformedMessage
from tests.fakes.policy_desk import next_policy
from tests.fakes.signer_disk import dying_disk
from tests.fakes.signer_hsm import START, Crash
from tests.fakes.signer_people import (
    approve,
    bind_evm,
    make_key_create,
    make_key_rule,
    make_key_state,
    make_rule,
)
from tests.integration.signer_harness import SignerProcess
from tests.redteam.conftest import Attack, DeskSigner, ProcessAttack
from tests.redteam.office import now
from tests.redteam.orders import QUORUM, RULES, TWO, change, transfer

On = Callable[..., ProcessAttack]
OnDesk = Callable[..., Attack[DeskSigner]]


def test_p15_killed_at_random_moments_it_signs_one_transaction_for_one_nonce(attack_on: On) -> None:
    """Each is asked for until it is answered; what was answered is answered again, and its nonce is nobody else's."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    attack = attack_on()
    signer, key = attack.signer, attack.makes_key()
    for nonce in range(6):
        asked = transfer(key, now(), nonce)
        assert signer.process is not None
        killer = threading.Timer(chance.uniform(0, 0.02), signer.process.kill)
        killer.start()
        first = answer_of(signer, asked)
        killer.join()
        signer.kill()
        signer.start()
        attack.owed += 1
        again = signer.ask(asked)
        assert isinstance(again, Signed)
        assert first in (None, again)
        attack.refuses("already_bound", replace(asked, binding=bind_evm(nonce + 100)))
        attack.refuses("slot_used", transfer(key, now(), nonce))


def answer_of(signer: SignerProcess, asked: Sign) -> Response | None:
    """The answer, None when the process died first."""
    try:
        return signer.ask(asked)
    except (OSError, ConnectionEnded, MalformedMessage):
        return None


STATES = make_rule("states", chain="secp256k1", kind="key_state", asset="none", amount_max="0", fee_max="0")
ORDERS = make_key_rule("secp256k1", id="by-people", vault="cold", approvals=TWO, windows=[])


def orders(
    attack: Attack[DeskSigner],
) -> dict[str, tuple[ChangePolicy | ChangeKey, ChangePolicy | ChangeKey]]:
    """What a quorum approved, and what it did not approve that an adversary would put in its place."""
    key = attack.makes_key()
    document = next_policy(allow=RULES)
    weaker = next_policy(allow=RULES, networks={})
    create, state = make_key_create(START), make_key_state(key, "suspended", START)

    def order(intent: Any) -> ChangeKey:
        data = governance.encode(intent)
        return ChangeKey(intent=data, approvals=approve(data, *QUORUM))

    return {
        "change": (change(document, *QUORUM, at=START), change(weaker, "alice", at=START)),
        "create": (order(create), replace(order(create), approvals=())),
        "state": (order(state), replace(order(state), approvals=())),
    }


_COMMIT = ["mac", "write", "write torn", "fsync", "anchor", "anchor torn"]
STEPS = {"change": _COMMIT, "create": [*_COMMIT, "generate", *_COMMIT], "state": _COMMIT}
"""What happens between the decision and the answer."""


@pytest.mark.parametrize(("name", "step"), [(name, n + 1) for name in STEPS for n in range(len(STEPS[name]))])
def test_p15_a_death_at_any_step_of_governance_leaves_it_whole_or_undone(
    desk_attack_on: OnDesk, name: str, step: int
) -> None:
    attack = desk_attack_on(allow=[ORDERS, STATES, *RULES])
    desk, (asked, forged) = attack.signer.desk, orders(attack)[name]
    attack.refuses("quorum_missing", forged)
    desk.token.calls.clear()
    desk.token.crash_at = step
    with dying_disk(desk.token), pytest.raises(Crash):
        attack.signer.ask(asked)
    assert desk.token.calls == STEPS[name][:step]
    attack.signer.restart()
    answer = attack.signer.ask(asked)
    assert not isinstance(answer, Refused)
    attack.signer.restart()
    assert attack.signer.ask(asked) == answer
    fact = {"change": b'"PolicyAccepted"', "create": b'"KeyReserved"', "state": b'"KeyStateChanged"'}[name]
    made_before = 1 if name == "create" else 0
    assert attack.signer.journal.read_bytes().count(fact) == made_before + 1
