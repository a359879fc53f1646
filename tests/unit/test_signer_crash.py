"""A signer that dies between any two steps, or whose HSM fails there, still makes one transaction or none."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from signer.anchor import PLACES
from signer.protocol.intent import Intent, StellarPayment
from signer.protocol.messages import Signed, StellarBinding, Veto
from signer.refusal import HsmFault
from tests.fakes.signer_desk import KINDS, Desk, approved, code_of, make_key, make_request
from tests.fakes.signer_disk import dying_disk
from tests.fakes.signer_hsm import START, Crash
from tests.fakes.signer_people import (
    approve,
    bind_evm,
    bind_stellar,
    make_payment,
    make_transfer,
)

COMMIT = ["mac", "write", "write torn", "fsync", "anchor", "anchor torn"]
"""What happens to one entry; from "fsync" on it stands in the file."""
SIGNATURE = [*COMMIT, "sign", *COMMIT]
KEY = [*COMMIT, "generate", *COMMIT]


@pytest.fixture(autouse=True)
def disk(signer: Desk) -> Iterator[None]:
    with dying_disk(signer.token):
        yield


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", range(1, len(SIGNATURE) + 1))
def test_a_crash_at_any_step_leaves_one_transaction(signer: Desk, kind: str, step: int) -> None:
    decider = signer.start()
    asked = make_request(decider, kind)
    signer.token.calls.clear()
    signer.token.crash_at = step
    with pytest.raises(Crash):
        decider.sign(asked)
    assert signer.token.calls == SIGNATURE[:step]
    decider = signer.start()
    if step > COMMIT.index("write torn") + 1:
        sequence = isinstance(asked.binding, StellarBinding)
        other = replace(asked.binding, sequence=2) if sequence else replace(asked.binding, nonce=2)
        assert code_of(decider, replace(asked, binding=other)) == "already_bound"
    answer = decider.sign(asked)
    assert isinstance(answer, Signed)
    assert signer.start().sign(asked) == answer


@pytest.mark.parametrize("step", range(1, len(SIGNATURE) + 3))
def test_a_crash_at_any_step_of_a_group_leaves_one_transaction_each(signer: Desk, step: int) -> None:
    """Two that may be signed, one that repeats, one for a taken nonce and one without quorum, asked for together."""
    decider = signer.start()
    first, stellar = make_request(decider, "transfer"), make_request(decider, "payment")
    rival, poor = make_request(decider, "erc20"), make_request(decider, "transfer")
    together = [first, stellar, first, rival, replace(poor, approvals=poor.approvals[:1])]
    signer.token.calls.clear()
    signer.token.crash_at = step
    with suppress(Crash):
        decider.sign_all(together)
    assert signer.token.calls == [*COMMIT, "sign", "sign", *COMMIT][:step]
    outcomes = signer.start().sign_all(together)
    assert outcomes[:3] == signer.start().sign_all(together)[:3]
    assert [getattr(one, "code", "ok") for one in outcomes] == [
        "ok",
        "ok",
        "ok",
        "slot_used",
        "quorum_missing",
    ]
    assert outcomes[0] == outcomes[2]


@pytest.mark.parametrize("step", range(1, len(KEY) + 1))
def test_a_crash_while_a_key_is_made_makes_one_key(signer: Desk, step: int) -> None:
    decider = signer.start()
    signer.token.crash_at = step
    with pytest.raises(Crash):
        make_key(decider)
    assert signer.token.calls == KEY[:step]
    key = make_key(signer.start())
    assert make_key(signer.start()) == key
    assert len(signer.token.seeds) == 1


@pytest.mark.parametrize("step", range(1, len(COMMIT) + 1))
def test_a_crash_at_any_step_of_a_veto_leaves_it_whole_or_undone(signer: Desk, step: int) -> None:
    decider = signer.start()
    asked = make_request(decider, "transfer")
    veto = Veto(intent=asked.intent, approvals=approve(asked.intent, "carol", decision="reject"))
    signer.token.calls.clear()
    signer.token.crash_at = step
    with pytest.raises(Crash):
        decider.veto(veto)
    decider = signer.start()
    if step > COMMIT.index("write torn") + 1:
        assert code_of(decider, asked) == "vetoed"
    assert decider.veto(veto)
    assert code_of(signer.start(), asked) == "vetoed"


@pytest.mark.parametrize("step", range(1, len(SIGNATURE) + 1))
def test_after_a_crash_the_dead_process_writes_and_signs_nothing(signer: Desk, step: int) -> None:
    """A write that failed half-way leaves a process that goes on answering; nobody may be answered by it."""
    decider = signer.start()
    asked, other = make_request(decider, "transfer"), make_request(decider, "payment")
    signer.token.calls.clear()
    signer.token.crash_at = step
    with pytest.raises(Crash):
        decider.sign(asked)
    if signer.token.calls[-1] in ("mac", "sign"):
        return
    file = signer.directory / "journal.log"
    before, calls = file.read_bytes(), len(signer.token.calls)
    assert code_of(decider, asked) == "journal_fault"
    assert code_of(decider, other) == "journal_fault"
    assert (file.read_bytes(), signer.token.calls[calls:]) == (before, [])


@pytest.mark.parametrize("call", ["write", "write torn", "fsync"])
def test_a_disk_that_fails_stops_this_process(signer: Desk, call: str) -> None:
    decider = signer.start()
    asked = make_request(decider, "transfer")
    signer.token.broken_disk = call
    assert code_of(decider, asked) == "journal_fault"
    signer.token.broken_disk = ""
    assert code_of(decider, asked) == "journal_fault"
    assert "sign" not in signer.token.calls
    assert signer.start().sign(asked)


def test_an_hsm_that_fails_to_sign_can_be_asked_again(signer: Desk) -> None:
    decider = signer.start()
    asked = make_request(decider, "transfer")
    signer.token.failing = "sign"
    with pytest.raises(HsmFault):
        decider.sign(asked)
    signer.token.failing = ""
    assert decider.sign(asked)


def test_what_the_hsm_kept_from_the_journal_counts_and_is_written_before_anything_else(signer: Desk) -> None:
    decider = signer.start()
    asked, other = make_request(decider, "transfer"), make_request(decider, "payment")
    before = (signer.directory / "journal.log").read_bytes()
    signer.token.failing = "mac"
    for request in (asked, asked, other):
        with pytest.raises(HsmFault):
            decider.sign(request)
    assert (signer.directory / "journal.log").read_bytes() == before
    assert "sign" not in signer.token.calls
    signer.token.failing = ""
    assert code_of(decider, replace(asked, binding=bind_evm(5))) == "already_bound"
    assert decider.sign(asked)
    assert isinstance(other.binding, StellarBinding)
    assert decider.sign(replace(other, binding=replace(other.binding, sequence=7))), (
        "it was never decided about"
    )
    assert signer.start().sign(replace(asked, approvals=()))


def test_what_the_hsm_kept_from_the_journal_dies_with_the_process(signer: Desk) -> None:
    decider = signer.start()
    asked = make_request(decider, "transfer")
    signer.token.failing = "mac"
    with pytest.raises(HsmFault):
        decider.sign(asked)
    signer.token.failing = ""
    assert signer.start().sign(replace(asked, binding=bind_evm(5)))


def test_an_anchor_that_cannot_be_written_stops_this_process(signer: Desk) -> None:
    decider = signer.start()
    asked = make_request(decider, "transfer")
    signer.token.failing = "anchor"
    with pytest.raises(HsmFault):
        decider.sign(asked)
    signer.token.failing = ""
    assert code_of(decider, asked) == "journal_fault"
    assert "sign" not in signer.token.calls
    assert signer.start().sign(asked)


def test_a_second_hand_on_the_journal_or_the_anchor_stops_signing(signer: Desk) -> None:
    decider = signer.start()
    asked = make_request(decider, "transfer")
    journal = signer.directory / "journal.log"
    with journal.open("ab") as file:
        file.write(b"x")
    assert code_of(decider, asked) == "journal_fault"
    journal.write_bytes(journal.read_bytes()[:-1])
    assert code_of(decider, asked) == "journal_fault"
    decider = signer.start()
    newest = max(PLACES, key=lambda place: int(signer.token.texts[place].split()[1]))
    signer.token.texts[newest] = signer.token.texts[newest][:-1] + "x"
    assert code_of(decider, asked) == "anchor_mismatch"
    assert "sign" not in signer.token.calls


@pytest.mark.parametrize("curve", ["ed25519", "secp256k1"])
@pytest.mark.parametrize("end", ["expiry", "veto"])
def test_a_slot_whose_intent_can_never_be_signed_is_free_again(signer: Desk, curve: str, end: str) -> None:
    """Bound, then a death before the signature: the account must not stay stuck at that sequence or nonce."""
    decider = signer.start()
    asked = make_request(decider, "payment" if curve == "ed25519" else "transfer")
    signer.token.crash_at = len(signer.token.calls) + len(COMMIT) + 1
    with pytest.raises(Crash):
        decider.sign(asked)
    assert signer.token.calls[-1] == "sign"
    decider = signer.start()
    view = make_key(decider, curve)
    start = START + 1000 if end == "expiry" else START
    other: Intent = make_payment(view, start) if curve == "ed25519" else make_transfer(view, start)
    assert code_of(decider, approved(other, asked.binding)) in ("slot_used", "not_yet", "bad_binding")
    if end == "veto":
        decider.veto(Veto(intent=asked.intent, approvals=approve(asked.intent, "carol", decision="reject")))
    signer.token.now = start
    binding = bind_stellar(other, 1) if isinstance(other, StellarPayment) else asked.binding
    decider.sign(approved(other, binding))
    assert code_of(decider, asked) in ("expired", "vetoed")
    assert code_of(signer.start(), asked) in ("expired", "vetoed")


def test_a_lapsed_stellar_sequence_is_free_again_and_a_signed_nonce_never(signer: Desk) -> None:
    decider = signer.start()
    payment, transfer = make_request(decider, "payment"), make_request(decider, "transfer")
    decider.sign(payment)
    decider.sign(transfer)
    assert isinstance(payment.binding, StellarBinding)
    signer.token.now = payment.binding.max_time
    later = make_payment(make_key(decider, "ed25519"), signer.token.now)
    assert code_of(decider, approved(later, bind_stellar(later, 1))) == "slot_used"
    signer.token.now += 1
    assert decider.sign(approved(later, bind_stellar(later, 1)))
    assert decider.sign(payment)
    assert (
        code_of(decider, approved(make_transfer(make_key(decider), signer.token.now), bind_evm(0)))
        == "slot_used"
    )
