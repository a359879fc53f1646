"""Voids in the signer: what its requester has given up is never signed. An audit decides all of it again at the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from signer import voids
from signer.decide import Decider
from signer.protocol import canonical
from signer.protocol.messages import Signed, Veto
from signer.protocol.voids import Void
from signer.refusal import Refusal
from tests.fakes.signer_desk import Desk, approved, code_of, make_key
from tests.fakes.signer_hsm import START, Crash
from tests.fakes.signer_people import approve, bind_evm, make_transfer


def void_code(decider: Decider, intent: bytes) -> str:
    with pytest.raises(Refusal) as caught:
        decider.void(Void(intent=intent))
    return caught.value.code


def test_what_was_given_up_is_never_signed_whoever_approves(signer: Desk) -> None:
    decider = signer.start()
    key = make_key(decider)
    asked = approved(make_transfer(key, START), bind_evm(0))
    void = Void(intent=asked.intent)
    assert decider.void(void) == decider.void(void)
    assert sum(b'"IntentVoided"' in line for line in signer.lines()) == 1
    for again in (decider, signer.start()):
        assert code_of(again, asked) == "voided"
    decider = signer.start()
    other = approved(make_transfer(key, START), bind_evm(0))
    assert isinstance(decider.sign(other), Signed)


def test_what_is_signed_cannot_be_given_up_and_its_bytes_stay(signer: Desk) -> None:
    decider = signer.start()
    asked = approved(make_transfer(make_key(decider), START), bind_evm(0))
    signed = decider.sign(asked)
    assert void_code(decider, asked.intent) == "already_signed"
    decider = signer.start()
    assert void_code(decider, asked.intent) == "already_signed"
    assert decider.sign(asked) == signed


def test_a_void_while_the_signature_is_being_made_is_told_that_it_may_exist(signer: Desk) -> None:
    decider = signer.start()
    asked = approved(make_transfer(make_key(decider), START), bind_evm(0))
    met: list[str] = []

    def meanwhile(call: str) -> None:
        if call == "sign" and not met:
            met.append(void_code(decider, asked.intent))

    signer.token.between = meanwhile
    assert isinstance(decider.sign(asked), Signed)
    assert met == ["already_signed"]


def test_one_that_was_bound_and_never_signed_gives_its_nonce_back(signer: Desk) -> None:
    decider = signer.start()
    key = make_key(decider)
    asked = approved(make_transfer(key, START), bind_evm(0))
    signer.token.failing = "sign"
    with pytest.raises(Exception, match="sign"):
        decider.sign(asked)
    signer.token.failing = ""
    decider = signer.start()
    other = approved(make_transfer(key, START), bind_evm(0))
    assert code_of(decider, other) == "slot_used"
    decider.void(Void(intent=asked.intent))
    assert code_of(decider, asked) == "voided"
    assert isinstance(decider.sign(other), Signed)


def test_what_can_never_be_signed_anyway_is_not_journaled(signer: Desk) -> None:
    decider = signer.start()
    key = make_key(decider)
    before = len(signer.lines())
    for changes in (
        {"policy_version": 1, "expires_at": START},
        {"policy_version": 1, "expires_at": START - 1},
    ):
        decider.void(Void(intent=canonical.encode(make_transfer(key, START, **changes))))
    rejected = canonical.encode(make_transfer(key, START))
    foreign = canonical.encode(make_transfer(key, START, org="beta"))
    assert void_code(decider, foreign) == "unknown_key"
    assert void_code(decider, b"{}") == "malformed_intent"
    assert len(signer.lines()) == before
    decider.veto(Veto(intent=rejected, approvals=approve(rejected, "bob", decision="reject")))
    decider.void(Void(intent=rejected))
    assert not any(b'"IntentVoided"' in line for line in signer.lines())


def test_a_requester_cannot_fill_the_journal_with_voids(
    make_signer: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voids, "STANDING_MAX", 3)
    signer = make_signer()
    decider = signer.start()
    key = make_key(decider)
    for _ in range(3):
        decider.void(Void(intent=canonical.encode(make_transfer(key, START))))
    assert void_code(decider, canonical.encode(make_transfer(key, START))) == "too_many_voids"
    signer.token.now = START + 600
    late = canonical.encode(make_transfer(key, START, expires_at=START + 2000))
    decider.void(Void(intent=late))
    assert code_of(decider, approved(canonical.decode(late), bind_evm(0))) == "voided"


@pytest.mark.parametrize("call", range(1, 5))
def test_a_death_in_the_middle_leaves_it_void_or_as_it_was(signer: Desk, call: int) -> None:
    decider = signer.start()
    asked = approved(make_transfer(make_key(decider), START), bind_evm(0))
    signer.token.calls.clear()
    signer.token.crash_at = call
    with suppress(Crash):
        decider.void(Void(intent=asked.intent))
    decider = signer.start()
    decider.void(Void(intent=asked.intent))
    assert code_of(decider, asked) == "voided"
