"""What a key may sign for an account whose own key is elsewhere, and what it may not."""

import base64
from collections.abc import Callable
from dataclasses import asdict

import pytest
from stellar_sdk import TransactionEnvelope

from cli.policy_words import compare
from signer.decide import Decider
from signer.policy.document import parse_policy
from signer.protocol.intent import StellarChannelPayment, StellarFeeBump, StellarMessage
from signer.protocol.messages import FeeBinding, KeyView, NoBinding
from tests.fakes.policy_desk import ask_change
from tests.fakes.signer_desk import Desk, approved, code_of, make_key
from tests.fakes.signer_hsm import START
from tests.fakes.signer_people import (
    ISSUER,
    NETWORK_ID,
    PASSPHRASE,
    bind_stellar,
    key_rules,
    make_header,
    make_payment,
    make_policy,
    make_rule,
    policy_bytes,
)

STELLAR = {"chain": "stellar:devnet", "amount_max": str(2**63 - 1), "fee_max": "100000"}


@pytest.fixture
def cosigner(decider: Decider) -> KeyView:
    return make_key(decider, "ed25519")


@pytest.fixture
def shared(decider: Decider, cosigner: KeyView) -> Decider:
    """The signer after its people named the account that the key signs for."""
    named = {"account": ISSUER, "chain": "stellar:devnet", "key": cosigner.key_id}
    message = make_rule("messages", chain="stellar:devnet", kind="stellar_message", asset="none")
    rules = [message, make_rule("stellar", **STELLAR), *key_rules()]
    decider.change_policy(
        ask_change(policy_bytes(make_policy(version=2, allow=rules, cosigned=[named])), "alice", "bob")
    )
    return decider


def test_an_account_that_no_policy_names_is_refused(decider: Decider, cosigner: KeyView) -> None:
    intent = make_payment(cosigner, START, source=ISSUER)
    assert code_of(decider, approved(intent, bind_stellar(intent, 1))) == "source_mismatch"


def test_the_signature_is_the_cosigners_with_its_own_hint(shared: Decider, cosigner: KeyView) -> None:
    intent = make_payment(cosigner, START, source=ISSUER, policy_version=2)
    signed = shared.sign(approved(intent, bind_stellar(intent, 1)))
    envelope = TransactionEnvelope.from_xdr(_text(signed.tx), PASSPHRASE)
    assert envelope.transaction.source.account_id == ISSUER
    (signature,) = envelope.signatures
    assert signature.signature_hint == bytes.fromhex(cosigner.public_key)[-4:]


def test_the_quorum_is_asked_as_for_any_account(shared: Decider, cosigner: KeyView) -> None:
    intent = make_payment(cosigner, START, source=ISSUER, policy_version=2)
    assert code_of(shared, approved(intent, bind_stellar(intent, 1), "alice")) == "quorum_missing"


def test_a_sequence_number_is_the_accounts_and_has_one_effect(shared: Decider, cosigner: KeyView) -> None:
    theirs = make_payment(cosigner, START, source=ISSUER, policy_version=2)
    shared.sign(approved(theirs, bind_stellar(theirs, 7)))
    again = make_payment(cosigner, START, source=ISSUER, policy_version=2, amount=1)
    assert code_of(shared, approved(again, bind_stellar(again, 7))) == "slot_used"
    own = make_payment(cosigner, START, policy_version=2)
    assert shared.sign(approved(own, bind_stellar(own, 7)))


def test_a_key_that_is_not_the_named_one_is_refused(shared: Decider) -> None:
    other = make_key(shared, "ed25519", vault="other")
    intent = make_payment(other, START, source=ISSUER, policy_version=2)
    assert code_of(shared, approved(intent, bind_stellar(intent, 1))) == "source_mismatch"


def test_an_account_is_named_for_its_own_chain_only(make_signer: Callable[..., Desk]) -> None:
    desk = make_signer(
        cosigned=[{"account": ISSUER, "chain": "stellar:elsewhere", "key": "00" * 16}],
        networks={"stellar:devnet": PASSPHRASE, "stellar:elsewhere": "Elsewhere"},
    )
    decider = desk.start()
    intent = make_payment(make_key(decider, "ed25519"), START, source=ISSUER)
    assert code_of(decider, approved(intent, bind_stellar(intent, 1))) == "source_mismatch"


def test_a_message_or_a_fee_bump_for_the_account_is_refused(shared: Decider, cosigner: KeyView) -> None:
    header = {
        **make_header(cosigner, START),
        "policy_version": 2,
        "source": ISSUER,
        "chain": "stellar:devnet",
    }
    message = StellarMessage(**header, text="ours")
    assert code_of(shared, approved(message, NoBinding())) == "source_mismatch"
    bump = StellarFeeBump(**header, network_id=NETWORK_ID, max_fee=1000, inner="ab" * 32)
    assert code_of(shared, approved(bump, FeeBinding(fee=1000))) == "source_mismatch"


def test_a_channel_of_ours_lends_its_number_to_the_account(
    make_signer: Callable[..., Desk],
) -> None:
    desk = make_signer()
    decider = desk.start()
    cosigner, channel = make_key(decider, "ed25519"), make_key(decider, "ed25519", vault="channels")
    named = {"account": ISSUER, "chain": "stellar:devnet", "key": cosigner.key_id}
    rules = [make_rule("stellar", **STELLAR)]
    decider.change_policy(
        ask_change(policy_bytes(make_policy(version=2, allow=rules, cosigned=[named])), "alice", "bob")
    )
    payment = make_payment(cosigner, START, source=ISSUER, policy_version=2)
    intent = StellarChannelPayment(**asdict(payment), channel=channel.address)
    signed = decider.sign(approved(intent, bind_stellar(intent, 1)))
    hints = {
        each.signature_hint for each in TransactionEnvelope.from_xdr(_text(signed.tx), PASSPHRASE).signatures
    }
    assert hints == {bytes.fromhex(key.public_key)[-4:] for key in (cosigner, channel)}


def _text(tx: bytes) -> str:
    return base64.b64encode(tx).decode()


def test_people_see_who_signs_for_whom_before_they_agree(shared: Decider, cosigner: KeyView) -> None:
    view = shared.show_policy()
    assert [(one.account, one.chain, one.key) for one in view.cosigned] == [
        (ISSUER, "stellar:devnet", cosigner.key_id)
    ]
    named = {"account": ISSUER, "chain": "stellar:devnet", "key": cosigner.key_id}
    changed = compare(
        parse_policy(policy_bytes(make_policy())), parse_policy(policy_bytes(make_policy(cosigned=[named])))
    )
    assert changed == [f"+ key {cosigner.key_id} signs with others for {ISSUER} on stellar:devnet"]
