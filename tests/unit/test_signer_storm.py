"""Many requests at once: what is decided between another request's decision and its signature, and storms of threads."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from signer.decide import Decider
from signer.protocol import canonical
from signer.protocol.messages import CreateKey, KeyView, ListKeys, Sign, Signed, Veto, Vetoed
from signer.refusal import HsmFault, Refusal
from tests.fakes.signer_desk import Desk, approved, code_of, make_key, make_request
from tests.fakes.signer_hsm import START
from tests.fakes.signer_people import approve, bind_evm, key_rules, make_rule, make_transfer

THREADS = 12


def during_the_signature(signer: Desk, act: Callable[[], None]) -> None:
    """Let this happen once, when the HSM is asked to sign next."""

    def hook(call: str) -> None:
        if call == "sign":
            signer.token.between = None
            act()

    signer.token.between = hook


def test_a_veto_that_comes_while_the_hsm_signs_is_too_late(signer: Desk) -> None:
    decider = signer.start()
    asked = make_request(decider, "transfer")
    veto = Veto(intent=asked.intent, approvals=approve(asked.intent, "carol", decision="reject"))
    caught = []

    def reject() -> None:
        with pytest.raises(Refusal) as refusal:
            decider.veto(veto)
        caught.append(refusal.value.code)

    during_the_signature(signer, reject)
    assert decider.sign(asked)
    assert caught == ["already_signed"]


def test_a_rejection_among_the_approvals_while_the_hsm_signs_is_no_veto(signer: Desk) -> None:
    """Whoever is told "vetoed" gives the money back; so it must not be said while the bytes may still leave."""
    decider = signer.start()
    asked = make_request(decider, "transfer")
    late = replace(asked, approvals=(*asked.approvals, *approve(asked.intent, "carol", decision="reject")))
    codes: list[str] = []
    during_the_signature(signer, lambda: codes.append(code_of(decider, late)))
    made = decider.sign(asked)
    assert codes == ["busy"]
    assert decider.sign(late) == made
    assert signer.start().sign(asked) == made


def test_no_refusal_for_good_while_the_hsm_signs(signer: Desk) -> None:
    """Its time is over, its binding another, its approvals gone: the same, whoever asks hears of the signature later."""
    decider = signer.start()
    key = make_key(decider)
    asked = approved(make_transfer(key, START, expires_at=START + 1), bind_evm(0))
    codes: list[str] = []

    def ask_otherwise() -> None:
        codes.append(code_of(decider, replace(asked, approvals=())))
        codes.append(code_of(decider, replace(asked, binding=bind_evm(1))))
        signer.token.now = START + 1
        codes.append(code_of(decider, asked))

    during_the_signature(signer, ask_otherwise)
    made = decider.sign(asked)
    assert codes == ["busy"] * 3
    assert decider.sign(asked) == made


def test_a_signature_that_failed_leaves_the_intent_open_to_a_veto(signer: Desk) -> None:
    decider = signer.start()
    asked = make_request(decider, "transfer")
    signer.token.failing = "sign"
    with pytest.raises(HsmFault):
        decider.sign(asked)
    veto = Veto(intent=asked.intent, approvals=approve(asked.intent, "carol", decision="reject"))
    assert isinstance(decider.veto(veto), Vetoed)


def test_a_nonce_is_not_free_while_the_hsm_signs_for_it_though_its_intent_expires(signer: Desk) -> None:
    decider = signer.start()
    key = make_key(decider)
    asked = approved(make_transfer(key, START, expires_at=START + 1), bind_evm(0))
    caught = []

    def go_on() -> None:
        signer.token.now = START + 1
        caught.append(code_of(decider, approved(make_transfer(key, START), bind_evm(0))))

    during_the_signature(signer, go_on)
    assert decider.sign(asked)
    assert caught == ["slot_used"]


def test_the_same_request_while_the_hsm_signs_is_one_signature(signer: Desk) -> None:
    decider = signer.start()
    asked = make_request(decider, "transfer")
    answers: list[Signed] = []
    second = threading.Thread(target=lambda: answers.append(decider.sign(asked)))

    def ask_again() -> None:
        second.start()
        # Long enough for the second to be decided, if it is not held up; the outcome does not depend on it.
        time.sleep(0.05)

    during_the_signature(signer, ask_again)
    first = decider.sign(asked)
    second.join()
    assert answers == [first]
    assert signer.token.calls.count("sign") == 1


def test_two_signatures_do_not_wait_for_each_other(signer: Desk) -> None:
    """The HSM signs outside the lock: each of two signatures begins before the other has ended."""
    decider = signer.start()
    requests = [make_request(decider, kind) for kind in ("transfer", "payment")]
    both = threading.Barrier(2, timeout=20)
    signer.token.between = lambda call: both.wait() and None if call == "sign" else None
    outcomes = storm(decider, requests)
    assert all(isinstance(one, Signed) for one in outcomes)


def storm(decider: Decider, requests: list[Sign]) -> list[Signed | Refusal | HsmFault]:
    """Ask everything at once, each by a thread of its own; outcomes in the order of the requests."""
    outcomes: list[Signed | Refusal | HsmFault] = [HsmFault("none")] * len(requests)
    ready = threading.Barrier(len(requests))

    def ask(number: int) -> None:
        ready.wait()
        outcomes[number] = decider.sign_all([requests[number]])[0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def jitter(signer: Desk) -> None:
    """Give up the processor at every call of the token, so that threads meet in ever other ways."""
    chance = random.Random(7)
    signer.token.between = lambda _: time.sleep(chance.uniform(0, 0.002))


def test_a_storm_on_one_nonce_makes_one_transaction(signer: Desk) -> None:
    decider = signer.start()
    key = make_key(decider)
    jitter(signer)
    requests = [approved(make_transfer(key, START), bind_evm(0)) for _ in range(THREADS)]
    outcomes = storm(decider, requests)
    assert sum(isinstance(one, Signed) for one in outcomes) == 1
    assert [one.code for one in outcomes if isinstance(one, Refusal)] == ["slot_used"] * (THREADS - 1)
    assert signer.token.calls.count("sign") == 1


def test_a_storm_of_one_request_gets_the_same_bytes(signer: Desk) -> None:
    decider = signer.start()
    asked = make_request(decider, "transfer")
    jitter(signer)
    outcomes = storm(decider, [asked] * THREADS)
    assert isinstance(outcomes[0], Signed)
    assert outcomes == [outcomes[0]] * THREADS
    assert signer.token.calls.count("sign") == 1
    assert signer.start().sign(asked) == outcomes[0]


def test_a_storm_under_one_limit_stays_under_it(make_signer: Callable[..., Desk]) -> None:
    window = {"seconds": 60, "amount_max": "5", "count_max": 1000}
    signer = make_signer(allow=[make_rule("evm", asset="native", windows=[window]), *key_rules()])
    decider = signer.start()
    keys = [make_key(decider, "secp256k1")]
    jitter(signer)
    requests = [
        approved(make_transfer(keys[0], START, amount=1 + number % 2), bind_evm(number))
        for number in range(THREADS)
    ]
    outcomes = storm(decider, requests)
    signed = [request for request, one in zip(requests, outcomes, strict=True) if isinstance(one, Signed)]
    total = sum(_amount(request) for request in signed)
    assert total in (4, 5)
    refused = [one.code for one in outcomes if isinstance(one, Refusal)]
    assert refused == ["over_velocity"] * (THREADS - len(signed))
    later = approved(make_transfer(keys[0], START, amount=2), bind_evm(99))
    assert code_of(signer.start(), later) == "over_velocity"


def _amount(request: Sign) -> int:
    intent = canonical.decode(request.intent)
    return intent.amount if hasattr(intent, "amount") else 0


def test_a_storm_of_vetoes_and_requests_never_has_both(signer: Desk) -> None:
    decider = signer.start()
    key = make_key(decider)
    jitter(signer)
    requests = [approved(make_transfer(key, START), bind_evm(number)) for number in range(THREADS)]
    vetoed = set()

    def reject(request: Sign) -> None:
        votes = approve(request.intent, "carol", decision="reject")
        try:
            decider.veto(Veto(intent=request.intent, approvals=votes))
        except Refusal as refusal:
            if refusal.code != "already_signed":
                raise
        else:
            vetoed.add(request.intent)

    vetoes = [threading.Thread(target=reject, args=(request,)) for request in requests]
    for thread in vetoes:
        thread.start()
    outcomes = storm(decider, requests)
    for thread in vetoes:
        thread.join()
    for request, outcome in zip(requests, outcomes, strict=True):
        assert isinstance(outcome, Signed) == (request.intent not in vetoed)
    again = signer.start().sign_all([replace(request, approvals=()) for request in requests])
    assert [isinstance(one, Signed) for one in again] == [isinstance(one, Signed) for one in outcomes]


def test_a_storm_for_one_key_makes_one_key(signer: Desk) -> None:
    decider = signer.start()
    jitter(signer)
    request = CreateKey(request_id="one", org="acme", vault="hot", curve="ed25519", label="one")
    views: list[KeyView] = []
    threads = [
        threading.Thread(target=lambda: views.append(decider.keyring.create_key(request)))
        for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(views) == THREADS
    assert len(set(views)) == 1
    assert len(signer.token.seeds) == 1
    assert signer.start().keyring.list_keys(ListKeys(org="acme")).keys == (views[0],)
