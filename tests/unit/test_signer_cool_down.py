"""What waits after its quorum, and what needs no quorum at all."""

from collections.abc import Callable
from dataclasses import replace

from signer.protocol import canonical
from signer.protocol.messages import Explain, KeyView, Sign, Veto
from tests.fakes.signer_desk import Desk, approved, code_of, make_key
from tests.fakes.signer_hsm import START
from tests.fakes.signer_people import approve, bind_evm, make_key_rule, make_rule, make_transfer


def slow_desk(make_signer: Callable[..., Desk]) -> Desk:
    return make_signer(allow=[make_rule("slow", cool_down_s=100), make_key_rule("secp256k1")])


def test_a_cool_down_begins_with_the_quorum_and_outlives_a_restart(make_signer: Callable[..., Desk]) -> None:
    signer = slow_desk(make_signer)
    decider = signer.start()
    key = make_key(decider)
    asked = approved(make_transfer(key, START), bind_evm(0))
    alone = replace(asked, approvals=asked.approvals[:1])
    assert code_of(decider, alone) == "quorum_missing"
    signer.token.now = START + 50
    assert code_of(decider, asked) == "cooling_down"
    told = decider.explain(Explain(intent=asked.intent, approvals=asked.approvals))
    assert (told.verdict, told.code, told.cool_down_s, told.ready_at) == (
        "wait",
        "cooling_down",
        100,
        START + 150,
    )
    signer.token.now = START + 149
    decider = signer.start()
    assert code_of(decider, asked) == "cooling_down"
    signer.token.now = START + 150
    assert code_of(decider, alone) == "quorum_missing"
    assert decider.sign(asked)


def test_a_veto_ends_what_cools_down(make_signer: Callable[..., Desk]) -> None:
    signer = slow_desk(make_signer)
    decider = signer.start()
    asked = approved(make_transfer(make_key(decider), START), bind_evm(0))
    assert code_of(decider, asked) == "cooling_down"
    decider.veto(Veto(intent=asked.intent, approvals=approve(asked.intent, "carol", decision="reject")))
    signer.token.now = START + 100
    assert code_of(signer.start(), asked) == "vetoed"


def test_explaining_a_complete_quorum_begins_no_cool_down(make_signer: Callable[..., Desk]) -> None:
    signer = slow_desk(make_signer)
    decider = signer.start()
    asked = approved(make_transfer(make_key(decider), START), bind_evm(0))
    assert decider.explain(Explain(intent=asked.intent, approvals=asked.approvals)).ready_at == 0
    signer.token.now = START + 500
    assert code_of(decider, asked) == "cooling_down"


def test_small_payments_need_nobody_until_their_rule_is_spent(make_signer: Callable[..., Desk]) -> None:
    small = make_rule(
        "small", kind="evm_transfer", asset="native", approvals=[], amount_max="100",
        windows=[{"seconds": 1000, "amount_max": "250", "count_max": 3}],
    )  # fmt: skip
    signer = make_signer(allow=[small, make_rule("large"), make_key_rule("secp256k1")])
    decider = signer.start()
    key, other = make_key(decider), make_key(decider, org="other")

    def pay(source: KeyView, amount: int, nonce: int) -> Sign:
        intent = make_transfer(source, START, amount=amount)
        return Sign(intent=canonical.encode(intent), approvals=(), binding=bind_evm(nonce))

    decider.sign(approved(make_transfer(key, START, amount=1000), bind_evm(9)))
    assert code_of(decider, pay(key, 101, 0)) == "quorum_missing"
    decider.sign(pay(key, 100, 0))
    decider.sign(pay(other, 100, 0))
    assert code_of(decider, pay(key, 51, 1)) == "quorum_missing"
    decider = signer.start()
    decider.sign(pay(other, 1, 1))
    assert code_of(decider, pay(key, 1, 1)) == "quorum_missing"
    signer.token.now = START + 599
    assert code_of(decider, pay(key, 1, 1)) == "quorum_missing"
