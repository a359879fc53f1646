"""What an intent points at is looked up in the signer's own record: keys of ours, channels, transactions signed before."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes
from stellar_sdk import AccountMerge, FeeBumpTransactionEnvelope, Keypair, Payment, TransactionEnvelope

from signer.decide import Decider
from signer.protocol import canonical
from signer.protocol.messages import Explain, FeeBinding, KeyView, NoBinding, Sign
from signer.refusal import HsmFault
from tests.fakes.signer_desk import Desk, approved, code_of, make_key
from tests.fakes.signer_hsm import START, Crash
from tests.fakes.signer_kinds import CONTRACT, CREDIT, EARLIER, bind_kind, curve_of_kind, make_kind
from tests.fakes.signer_people import (
    CUSTOMER,
    PASSPHRASE,
    RECEIVER,
    approve,
    bind_evm,
    bind_stellar,
    chain_of_kind,
    make_payment,
    make_policy,
    make_rule,
    make_transfer,
)

OWN = ["stellar_account_merge", "evm_sweep", "evm_erc20_sweep"]


def named_rule(kind: str, *destinations: str) -> dict[str, object]:
    return make_rule(
        f"only-{kind}",
        chain=chain_of_kind(kind),
        kind=kind,
        destinations=list(destinations) or ["*"],
        amount_max=str(2**256 - 1),
    )


@pytest.fixture
def desk(make_signer: Any) -> Desk:
    named = [named_rule(kind) for kind in ("stellar_account_merge", "stellar_message", "evm_message")]
    allow: Any = make_policy()["allow"]
    signer: Desk = make_signer(allow=[*named, *allow])
    return signer


@pytest.fixture
def decider(desk: Desk) -> Decider:
    return desk.start()


def envelope_of(tx: bytes) -> TransactionEnvelope:
    return TransactionEnvelope.from_xdr(base64.b64encode(tx).decode(), PASSPHRASE)


# --- destinations of our own ----------------------------------------------------------------------------------------------


def test_a_sweep_and_a_merge_reach_the_key_that_was_named(decider: Decider) -> None:
    deposit, treasury = make_key(decider, vault="deposit"), make_key(decider, vault="treasury")
    sweep = make_kind("evm_sweep", deposit, START, destination=treasury.address)
    fields = TypedTransaction.from_bytes(HexBytes(decider.sign(approved(sweep, bind_evm(0))).tx)).as_dict()
    assert (HexBytes(fields["to"]), fields["value"]) == (HexBytes(treasury.address), sweep.amount)
    old, new = make_key(decider, "ed25519", vault="deposit"), make_key(decider, "ed25519", vault="treasury")
    merge = make_kind("stellar_account_merge", old, START, destination=new.address)
    (operation,) = envelope_of(
        decider.sign(approved(merge, bind_stellar(merge, 1))).tx
    ).transaction.operations
    assert isinstance(operation, AccountMerge)
    assert operation.destination.account_id == new.address


@pytest.mark.parametrize("kind", OWN)
def test_a_destination_that_is_not_ours_is_refused(decider: Decider, kind: str) -> None:
    curve = curve_of_kind(kind)
    key, own = make_key(decider, curve), make_key(decider, curve, vault="treasury")
    foreign = make_key(decider, curve, org="evil", vault="treasury")
    make_key(decider, "ed25519", vault="checkpoints")
    outside = CUSTOMER if curve == "ed25519" else RECEIVER
    for changes in (
        {"destination": outside},
        {"destination": foreign.address},
        {"destination": own.address, "destination_vault": "hot"},
        {"destination": own.address, "destination_vault": "deposit"},
    ):
        intent = make_kind(kind, key, START, **changes)
        assert code_of(decider, approved(intent, bind_kind(intent, 1))) == "foreign_destination"
    intent = make_kind(kind, key, START, destination=own.address)
    assert decider.sign(approved(intent, bind_kind(intent, 1)))


def test_a_checkpoint_key_receives_nothing(decider: Decider) -> None:
    key, checkpoint = make_key(decider, "ed25519"), make_key(decider, "ed25519", vault="checkpoints")
    merge = make_kind(
        "stellar_account_merge", key, START, destination=checkpoint.address, destination_vault="checkpoints"
    )
    assert code_of(decider, approved(merge, bind_stellar(merge, 1))) == "foreign_destination"


def test_explain_tells_of_a_foreign_destination(decider: Decider) -> None:
    data = canonical.encode(make_kind("evm_sweep", make_key(decider), START, destination=RECEIVER))
    told = decider.explain(Explain(intent=data, approvals=approve(data, "alice", "bob")))
    assert (told.verdict, told.code) == ("deny", "foreign_destination")


# --- channels -------------------------------------------------------------------------------------------------------------


def ask_channel(decider: Decider) -> tuple[KeyView, KeyView, Sign]:
    source, channel = make_key(decider, "ed25519"), make_key(decider, "ed25519", vault="channels")
    intent = make_kind("stellar_channel_payment", source, START, channel=channel.address)
    return source, channel, approved(intent, bind_stellar(intent, 3))


def test_source_and_channel_both_sign_and_the_channel_pays_the_fee(decider: Decider) -> None:
    source, channel, asked = ask_channel(decider)
    envelope = envelope_of(decider.sign(asked).tx)
    transaction = envelope.transaction
    assert (transaction.source.account_id, transaction.sequence) == (channel.address, 3)
    (operation,) = transaction.operations
    assert isinstance(operation, Payment)
    assert operation.source is not None
    assert operation.source.account_id == source.address
    for key, decorated in zip((source, channel), envelope.signatures, strict=True):
        Keypair.from_public_key(key.address).verify(envelope.hash(), decorated.signature)


def test_only_a_channel_key_of_the_same_org_is_a_channel(decider: Decider) -> None:
    source = make_key(decider, "ed25519")
    for channel in (
        make_key(decider, "ed25519", vault="treasury"),
        make_key(decider, "ed25519", org="evil", vault="channels"),
        make_key(decider, "ed25519", vault="checkpoints"),
    ):
        intent = make_kind("stellar_channel_payment", source, START, channel=channel.address)
        assert code_of(decider, approved(intent, bind_stellar(intent, 1))) == "unknown_channel"
    intent = make_kind("stellar_channel_payment", source, START, channel=CUSTOMER)
    assert code_of(decider, approved(intent, bind_stellar(intent, 1))) == "unknown_channel"


@pytest.mark.parametrize("step", range(1, 9))
def test_a_crash_between_the_two_signatures_leaves_one_transaction(desk: Desk, step: int) -> None:
    decider = desk.start()
    _, _, asked = ask_channel(decider)
    desk.token.calls.clear()
    desk.token.crash_at = step
    with pytest.raises(Crash):
        decider.sign(asked)
    assert (
        desk.token.calls
        == ["mac", "anchor", "anchor torn", "sign", "sign", "mac", "anchor", "anchor torn"][:step]
    )
    decider = desk.start()
    answer = decider.sign(asked)
    assert desk.start().sign(asked) == answer
    assert len(envelope_of(answer.tx).signatures) == 2


# --- fee bumps ------------------------------------------------------------------------------------------------------------


def digest_of(intent: Any) -> str:
    return canonical.digest(canonical.encode(intent)).hex()


def test_a_fee_bump_wraps_what_was_signed_and_nothing_else_of_it_changes(decider: Decider) -> None:
    key, payer = make_key(decider, "ed25519"), make_key(decider, "ed25519", vault="fees")
    payment = make_payment(key, START)
    inner = decider.sign(approved(payment, bind_stellar(payment, 1)))
    bump = make_kind("stellar_fee_bump", payer, START, inner=digest_of(payment), max_fee=50_000)
    signed = decider.sign(approved(bump, FeeBinding(fee=40_000)))
    envelope = FeeBumpTransactionEnvelope.from_xdr(base64.b64encode(signed.tx).decode(), PASSPHRASE)
    assert envelope.hash_hex() == signed.tx_hash
    assert (envelope.transaction.fee_source.account_id, envelope.transaction.fee) == (payer.address, 40_000)
    (decorated,) = envelope.signatures
    Keypair.from_public_key(payer.address).verify(envelope.hash(), decorated.signature)
    assert envelope.transaction.inner_transaction_envelope.to_xdr_object().to_xdr_bytes() == inner.tx
    again = replace(bump, max_fee=60_000)
    assert decider.sign(approved(again, FeeBinding(fee=60_000)))


def test_a_fee_bump_takes_no_sequence(decider: Decider) -> None:
    key = make_key(decider, "ed25519")
    payment = make_payment(key, START)
    decider.sign(approved(payment, bind_stellar(payment, 1)))
    bump = make_kind("stellar_fee_bump", key, START, inner=digest_of(payment))
    decider.sign(approved(bump, FeeBinding(fee=400)))
    late = make_payment(key, START)
    assert code_of(decider, approved(late, bind_stellar(late, 1))) == "slot_used"
    assert decider.sign(approved(late, bind_stellar(late, 2)))


def test_only_a_transaction_of_the_same_org_and_chain_is_bumped(desk: Desk) -> None:
    decider = desk.start()
    key, foreign = make_key(decider, "ed25519"), make_key(decider, "ed25519", org="evil")
    payment = make_payment(key, START)
    wait = make_payment(key, START)
    message = make_kind("stellar_message", key, START)
    decider.sign(approved(payment, bind_stellar(payment, 1)))
    decider.sign(approved(message, NoBinding()))
    desk.token.failing = "sign"
    with pytest.raises(HsmFault):
        decider.sign(approved(wait, bind_stellar(wait, 2)))
    desk.token.failing = ""
    bump = make_kind("stellar_fee_bump", key, START, inner=digest_of(payment))
    decider.sign(approved(bump, FeeBinding(fee=1000)))
    for payer, inner in (
        (key, EARLIER),
        (key, digest_of(wait)),
        (key, digest_of(message)),
        (key, digest_of(bump)),
        (foreign, digest_of(payment)),
    ):
        intent = make_kind("stellar_fee_bump", payer, START, inner=inner)
        assert code_of(decider, approved(intent, FeeBinding(fee=1000))) == "unknown_intent"


# --- messages -------------------------------------------------------------------------------------------------------------


def test_a_message_is_signed_for_people_who_approve_it_and_answered_again(desk: Desk) -> None:
    decider = desk.start()
    key, stellar = make_key(decider), make_key(decider, "ed25519")
    message = make_kind("evm_message", key, START, text="nonce 7")
    asked = approved(message, NoBinding())
    signed = decider.sign(asked)
    text = f"Proof of control of {key.address}\nnonce 7"
    assert Account.recover_message(encode_defunct(text=text), signature=signed.tx) == key.address
    assert desk.start().sign(asked) == signed
    sep_53 = make_kind("stellar_message", stellar, START, text="nonce 8")
    signature = decider_sign(desk, sep_53)
    Keypair.from_public_key(stellar.address).verify_message(
        f"Proof of control of {stellar.address}\nnonce 8", signature
    )


def decider_sign(desk: Desk, intent: Any) -> bytes:
    return desk.start().sign(approved(intent, bind_kind(intent, 1))).tx


def test_a_message_needs_its_quorum_its_key_and_its_window(desk: Desk) -> None:
    decider = desk.start()
    key, other = make_key(decider), make_key(decider, vault="cold")
    message = make_kind("evm_message", key, START)
    assert code_of(decider, approved(message, NoBinding(), "alice")) == "quorum_missing"
    assert (
        code_of(decider, approved(replace(message, source=other.address), NoBinding())) == "source_mismatch"
    )
    assert (
        code_of(decider, approved(replace(message, policy_version=2), NoBinding())) == "wrong_policy_version"
    )
    desk.token.now = message.expires_at
    assert code_of(decider, approved(message, NoBinding())) == "expired"


def test_messages_take_no_nonce_from_each_other_or_from_money(decider: Decider) -> None:
    key = make_key(decider)
    for number in range(3):
        assert decider.sign(
            approved(make_kind("evm_message", key, START, text=f"nonce {number}"), NoBinding())
        )
    assert decider.sign(approved(make_transfer(key, START), bind_evm(0)))


def test_a_checkpoint_key_signs_no_message(decider: Decider) -> None:
    key = make_key(decider, "ed25519", vault="checkpoints")
    assert code_of(decider, approved(make_kind("stellar_message", key, START), NoBinding())) == "key_purpose"


# --- addresses ------------------------------------------------------------------------------------------------------------

NOBODY = "GAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAWHF"


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("stellar_create_account", {"destination": NOBODY}),
        ("stellar_channel_payment", {"channel": NOBODY}),
        ("stellar_set_options", {"signer_key": NOBODY}),
        ("stellar_contract_payment", {"asset": f"USDC:{NOBODY}"}),
        ("stellar_path_payment_strict_send", {"path": f"native,USDC:{NOBODY}"}),
        ("stellar_path_payment_strict_receive", {"send_asset": f"USDC:{NOBODY}"}),
        ("evm_erc20_approve", {"spender": RECEIVER.lower()}),
        ("evm_sweep", {"destination": RECEIVER.lower()}),
        ("evm_replace", {"asset": RECEIVER.lower()}),
    ],
)
def test_an_address_that_is_mistyped_is_refused_wherever_it_stands(
    decider: Decider, kind: str, changes: dict[str, str]
) -> None:
    intent = make_kind(kind, make_key(decider, curve_of_kind(kind)), START, **changes)
    assert code_of(decider, approved(intent, bind_kind(intent, 1))) == "bad_checksum"


def test_a_contract_is_paid_without_being_a_key(decider: Decider) -> None:
    intent = make_kind(
        "stellar_contract_payment", make_key(decider, "ed25519"), START, destination=CONTRACT, asset=CREDIT
    )
    assert decider.sign(approved(intent, bind_kind(intent, 1)))
