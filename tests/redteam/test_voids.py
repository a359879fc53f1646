"""V: voids. The red team has real approvals of what was given up, and gives up what is not its own."""

from __future__ import annotations

from collections.abc import Callable

from signer.protocol.messages import Sign
from signer.protocol.voids import Void, Voided
from tests.fakes.signer_batches import ask_batch
from tests.fakes.signer_hsm import START
from tests.fakes.signer_people import approve, bind_evm
from tests.redteam.conftest import Attack, DeskSigner, changed
from tests.redteam.orders import transfer

OnDesk = Callable[..., Attack[DeskSigner]]


def test_v1_real_approvals_of_what_was_given_up(desk_attack_on: OnDesk) -> None:
    attack = desk_attack_on()
    key = attack.makes_key()
    asked = transfer(key, START)
    line = transfer(key, START, amount=5)
    attack.signer.ask(ask_batch([asked.intent, line.intent]))
    assert isinstance(attack.signer.ask(Void(intent=asked.intent)), Voided)
    attack.refuses("voided", asked)
    attack.refuses("voided", Sign(intent=asked.intent, approvals=(), binding=bind_evm(1)))
    attack.signer.restart()
    attack.refuses(
        "voided",
        Sign(intent=asked.intent, approvals=approve(asked.intent, "carol", "bob"), binding=bind_evm(9)),
    )
    attack.owes(attack.signer.ask(Sign(intent=line.intent, approvals=(), binding=bind_evm(0))))


def test_v2_a_void_after_the_signature_or_of_anothers_intent(desk_attack_on: OnDesk) -> None:
    attack = desk_attack_on()
    key = attack.makes_key()
    asked = transfer(key, START)
    attack.owes(attack.signer.ask(asked))
    attack.refuses("already_signed", Void(intent=asked.intent))
    attack.signer.restart()
    attack.refuses("already_signed", Void(intent=asked.intent))
    attack.refuses("unknown_key", Void(intent=changed(asked.intent, org="beta")))
    attack.refuses("malformed_intent", Void(intent=changed(asked.intent, amount="01")))
    other = transfer(key, START, nonce=1, initiator="maker")
    attack.signer.ask(Void(intent=changed(other.intent, amount=1)))
    attack.owes(attack.signer.ask(other))
