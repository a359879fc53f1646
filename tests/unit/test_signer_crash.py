"""A signer that dies between any two steps, or whose HSM fails there, still makes one transaction or none."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from signer.decide import Decider
from signer.protocol.messages import Signed, StellarBinding
from signer.refusal import HsmFault
from tests.fakes.signer_desk import KINDS, Desk, code_of, make_key, make_request
from tests.fakes.signer_hsm import Crash, FakeToken
from tests.fakes.signer_people import (
    bind_evm,
    make_policy,
)


@pytest.fixture
def make_signer(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(**policy: object) -> Desk:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Desk(directory=directory, token=FakeToken(), policy=make_policy(**policy)))
        return made[-1]

    yield make
    for signer in made:
        if signer.record is not None:
            signer.record.close()


@pytest.fixture
def signer(make_signer: Callable[..., Desk]) -> Desk:
    return make_signer()


@pytest.fixture
def decider(signer: Desk) -> Decider:
    return signer.start()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", range(1, 8))
def test_a_crash_at_any_step_leaves_one_transaction(signer: Desk, kind: str, step: int) -> None:
    decider = signer.start()
    asked = make_request(decider, kind)
    signer.token.calls.clear()
    signer.token.crash_at = step
    with pytest.raises(Crash):
        decider.sign(asked)
    assert signer.token.calls == ["mac", "anchor", "destroy", "sign", "mac", "anchor", "destroy"][:step]
    decider = signer.start()
    if step > 1:
        sequence = isinstance(asked.binding, StellarBinding)
        other = replace(asked.binding, sequence=2) if sequence else replace(asked.binding, nonce=2)
        assert code_of(decider, replace(asked, binding=other)) == "already_bound"
    answer = decider.sign(asked)
    assert isinstance(answer, Signed)
    assert signer.start().sign(asked) == answer


@pytest.mark.parametrize("step", range(1, 8))
def test_a_crash_while_a_key_is_made_makes_one_key(signer: Desk, step: int) -> None:
    decider = signer.start()
    signer.token.crash_at = step
    with pytest.raises(Crash):
        make_key(decider)
    assert signer.token.calls == ["mac", "anchor", "destroy", "generate", "mac", "anchor", "destroy"][:step]
    key = make_key(signer.start())
    assert make_key(signer.start()) == key
    assert len(signer.token.seeds) == 1


def test_an_hsm_that_fails_to_sign_can_be_asked_again(signer: Desk) -> None:
    decider = signer.start()
    asked = make_request(decider, "transfer")
    signer.token.failing = "sign"
    with pytest.raises(HsmFault):
        decider.sign(asked)
    signer.token.failing = ""
    assert decider.sign(asked)


def test_an_hsm_that_fails_before_the_journal_leaves_no_trace(signer: Desk) -> None:
    decider = signer.start()
    asked = make_request(decider, "transfer")
    signer.token.failing = "mac"
    with pytest.raises(HsmFault):
        decider.sign(asked)
    signer.token.failing = ""
    assert decider.sign(replace(asked, binding=bind_evm(5)))


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
    journal = signer.directory / "journal.jsonl"
    with journal.open("ab") as file:
        file.write(b"x")
    assert code_of(decider, asked) == "journal_fault"
    journal.write_bytes(journal.read_bytes()[:-1])
    assert code_of(decider, asked) == "journal_fault"
    decider = signer.start()
    signer.token.anchors = [signer.token.anchors[0][:-1] + b"\x00"]
    assert code_of(decider, asked) == "anchor_mismatch"
    assert "sign" not in signer.token.calls
