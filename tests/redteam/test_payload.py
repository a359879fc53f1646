"""T: what is signed is not what was approved. The signer builds every byte itself, so there is little left to swap."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from uuid import uuid4

import pytest
from stellar_sdk import Keypair, MuxedAccount

from signer.protocol import canonical
from signer.protocol.intent import Intent
from signer.protocol.messages import ContractBinding, CreateKey, KeyView, Sign, dump
from tests.fakes.signer_kinds import SAMPLES, bind_kind, curve_of_kind, make_kind
from tests.fakes.signer_people import (
    CUSTOMER,
    ISSUER,
    RECEIVER,
    TOKEN,
    approve,
    bind_evm,
    bind_stellar,
    make_erc20,
    make_payment,
    make_transfer,
)
from tests.integration.signer_harness import SignerProcess
from tests.redteam.conftest import ProcessAttack, changed

Keys = dict[str, KeyView]
QUORUM = ("alice", "bob")
MALLORY = Keypair.from_raw_ed25519_seed(bytes([66]) * 32).public_key
MALLORY_EVM = "0x52908400098527886E0F7030069857D2E4169EE7"


@pytest.fixture(scope="module")
def keys(signer: SignerProcess) -> Keys:
    made = {}
    for curve in ("ed25519", "secp256k1"):
        request = CreateKey(request_id=str(uuid4()), org="acme", vault="hot", curve=curve, label="one")
        made[curve] = signer.ask(request)
    return made  # type: ignore[return-value]  # asserted by every use


def now() -> int:
    return int(time.time())


def payment(keys: Keys, **changes: object) -> bytes:
    return canonical.encode(make_payment(keys["ed25519"], now(), **changes))


def transfer(keys: Keys, **changes: object) -> bytes:
    return canonical.encode(make_transfer(keys["secp256k1"], now(), **changes))


def swapped(attack: ProcessAttack, code: str, approved: bytes, asked: bytes) -> None:
    """People approved one thing; the adversary asks for another with their true approvals."""
    intent = canonical.decode(approved)
    request = Sign(intent=asked, approvals=approve(approved, *QUORUM), binding=bind_kind(intent, 900))
    attack.refuses(code, request)


@pytest.mark.parametrize("name", ["unsigned", "tx", "xdr", "raw", "hash", "signature_base"])
def test_t1_bytes_supplied_beside_the_intent_have_no_place_to_stand(
    attack: ProcessAttack, keys: Keys, name: str
) -> None:
    data = payment(keys)
    body = json.loads(
        dump(
            Sign(
                intent=data,
                approvals=approve(data, *QUORUM),
                binding=bind_stellar(canonical.decode(data), 901),
            )
        )
    )
    attack.refuses_bytes("malformed_message", json.dumps(body | {name: "00" * 64}).encode())


def test_t2_another_chain_id_than_the_approved_one(attack: ProcessAttack, keys: Keys) -> None:
    data = transfer(keys)
    swapped(attack, "bad_approval_signature", data, changed(data, chain="eip155:1", chain_id=1))
    attack.refuses_intent("malformed_intent", changed(data, chain_id=1), bind_evm(902), *QUORUM)
    attack.refuses_intent(
        "malformed_intent", changed(data, chain="eip155:0", chain_id=0), bind_evm(902), *QUORUM
    )
    attack.refuses_intent("no_rule", changed(data, chain="eip155:1", chain_id=1), bind_evm(902), *QUORUM)


def test_t3_the_same_transaction_on_another_stellar_network(attack: ProcessAttack, keys: Keys) -> None:
    data = payment(keys)
    attack.refuses_intent(
        "unknown_network",
        changed(data, network_id="7a" * 32),
        bind_stellar(canonical.decode(data), 903),
        *QUORUM,
    )
    attack.refuses_intent(
        "unknown_network",
        changed(data, chain="stellar:pubnet"),
        bind_stellar(canonical.decode(data), 903),
        *QUORUM,
    )


@pytest.mark.parametrize(
    "field", ["destination", "memo", "asset", "amount", "max_fee", "source", "expires_at", "initiator"]
)
def test_t4_t5_t6_a_field_swapped_after_the_approval(attack: ProcessAttack, keys: Keys, field: str) -> None:
    data = payment(keys, memo_type="text", memo="invoice 7", asset=f"USDC:{ISSUER}")
    value = {
        "destination": MALLORY, "memo": "invoice 8", "asset": f"USDC:{MALLORY}", "amount": 2**63 - 1, "max_fee": 2**32 - 1,
        "source": MALLORY, "expires_at": now() + 10**6, "initiator": "other",
    }[field]  # fmt: skip
    swapped(
        attack,
        "source_mismatch" if field == "source" else "bad_approval_signature",
        data,
        changed(data, **{field: value}),
    )


def test_t4_a_destination_that_is_no_plain_address(attack: ProcessAttack, keys: Keys) -> None:
    data = transfer(keys)
    for name in ("vitalik.eth", "alice*example.org", RECEIVER[2:], RECEIVER + "00", "0x" + "0" * 40):
        attack.refuses_intent("malformed_intent", changed(data, destination=name), bind_evm(904), *QUORUM)
    for name in (RECEIVER.lower(), RECEIVER.swapcase().replace("X", "x", 1)):
        attack.refuses_intent("bad_checksum", changed(data, destination=name), bind_evm(904), *QUORUM)


def test_t4_another_customer_inside_a_muxed_address(attack: ProcessAttack, keys: Keys) -> None:
    data = payment(keys, destination=MuxedAccount(CUSTOMER, 77).account_muxed)
    for other in (MuxedAccount(CUSTOMER, 78).account_muxed, CUSTOMER):
        swapped(attack, "bad_approval_signature", data, changed(data, destination=other))


def test_t6_native_for_a_token_and_a_token_for_native(attack: ProcessAttack, keys: Keys) -> None:
    token, native = canonical.encode(make_erc20(keys["secp256k1"], now())), transfer(keys)
    swapped(attack, "bad_approval_signature", token, native)
    swapped(attack, "bad_approval_signature", native, token)
    swapped(attack, "bad_approval_signature", token, changed(token, token=MALLORY_EVM))


@pytest.mark.parametrize("name", ["operations", "op_source", "set_options", "signer", "clawback"])
def test_t7_more_operations_cannot_be_said(attack: ProcessAttack, keys: Keys, name: str) -> None:
    data = payment(keys)
    attack.refuses_intent(
        "malformed_intent", changed(data, **{name: "1"}), bind_stellar(canonical.decode(data), 905), *QUORUM
    )


@pytest.mark.parametrize(
    "kind",
    [
        "stellar_set_options",
        "stellar_account_merge",
        "stellar_create_claimable_balance",
        "evm_erc20_approve",
        "evm_message",
        "stellar_message",
    ],
)
def test_t7_t8_dangerous_kinds_need_a_rule_that_names_them(
    attack: ProcessAttack, keys: Keys, kind: str
) -> None:
    changes = (
        {"destination": keys["ed25519"].address, "destination_vault": "hot"}
        if kind == "stellar_account_merge"
        else {}
    )
    if kind == "stellar_account_merge":
        other = attack.signer.ask(
            CreateKey(request_id=str(uuid4()), org="acme", vault="hot", curve="ed25519", label="two")
        )
        assert isinstance(other, KeyView)
        changes["destination"] = other.address
    intent = make_kind(kind, keys[curve_of_kind(kind)], now(), **changes)
    attack.refuses_intent("no_rule", canonical.encode(intent), bind_kind(intent, 906), *QUORUM)


@pytest.mark.parametrize("amount", [2**96 - 1, 2**128, 2**256 - 1])
def test_t8_an_unlimited_allowance(attack: ProcessAttack, keys: Keys, amount: int) -> None:
    data = canonical.encode(make_kind("evm_erc20_approve", keys["secp256k1"], now()))
    attack.refuses_intent("malformed_intent", changed(data, amount=amount), bind_evm(907), *QUORUM)


@pytest.mark.parametrize(
    "kind",
    [
        "evm_permit",
        "evm_typed_data",
        "evm_call",
        "evm_delegatecall",
        "stellar_invoke",
        "hash",
        "",
        "stellar_begin_sponsoring",
    ],
)
def test_t8_t9_t10_t21_kinds_that_do_not_exist(attack: ProcessAttack, keys: Keys, kind: str) -> None:
    attack.refuses_intent("malformed_intent", changed(transfer(keys), kind=kind), bind_evm(908), *QUORUM)


@pytest.mark.parametrize(
    "name",
    ["data", "calldata", "value", "type", "access_list", "authorization_list", "blob_hashes", "nonce", "to"],
)
def test_t9_t11_calldata_value_and_lists_cannot_be_said(attack: ProcessAttack, keys: Keys, name: str) -> None:
    data = canonical.encode(make_erc20(keys["secp256k1"], now()))
    attack.refuses_intent("malformed_intent", changed(data, **{name: "0x"}), bind_evm(909), *QUORUM)


def test_t12_a_contract_call_that_costs_more_than_was_approved(attack: ProcessAttack, keys: Keys) -> None:
    intent = make_kind("stellar_contract_payment", keys["ed25519"], now())
    bound = bind_kind(intent, 910)
    assert isinstance(bound, ContractBinding)
    for binding in (
        replace(bound, resource_fee=intent.max_fee + 1),
        replace(bound, resource_fee=-1),
        replace(bound, instructions=2**32),
        replace(bound, write_bytes=-1),
        replace(bound, frame=replace(bound.frame, fee=intent.max_fee + 1)),
    ):
        attack.refuses_intent("bad_binding", canonical.encode(intent), binding, *QUORUM)


def test_t13_fees_above_what_was_approved(attack: ProcessAttack, keys: Keys) -> None:
    stellar = make_payment(keys["ed25519"], now())
    bound = bind_stellar(stellar, 911)
    for fee in (stellar.max_fee + 1, 99, 0, -1, 2**32):
        attack.refuses_intent("bad_binding", canonical.encode(stellar), replace(bound, fee=fee), *QUORUM)
    evm = make_transfer(keys["secp256k1"], now())
    for price, tip in ((evm.max_fee_per_gas + 1, 0), (10, 11), (0, 0), (2, evm.max_priority_fee_per_gas + 1)):
        binding = replace(bind_evm(911), max_fee_per_gas=price, max_priority_fee_per_gas=tip)
        attack.refuses_intent("bad_binding", canonical.encode(evm), binding, *QUORUM)


def test_t13_a_wrapper_around_a_transaction_that_is_not_ours(attack: ProcessAttack, keys: Keys) -> None:
    for kind in ("stellar_fee_bump", "evm_replace", "evm_cancel"):
        intent = make_kind(kind, keys[curve_of_kind(kind)], now())
        attack.refuses_intent("unknown_intent", canonical.encode(intent), bind_kind(intent, 912), *QUORUM)


def test_t13_an_endless_race_of_replacements(attack: ProcessAttack, keys: Keys) -> None:
    first = make_transfer(keys["secp256k1"], now(), max_fee_per_gas=10**11, max_priority_fee_per_gas=10**11)
    attack.is_signed(
        first, replace(bind_evm(5), max_fee_per_gas=1000, max_priority_fee_per_gas=1000), *QUORUM
    )
    named, price = canonical.digest(canonical.encode(first)).hex(), 1000
    for turn in range(8):
        price = price * 11 // 10 + 1
        cancel = make_kind("evm_cancel", keys["secp256k1"], now(), cancels=named)
        binding = replace(bind_evm(5), max_fee_per_gas=price, max_priority_fee_per_gas=price)
        if turn < 7:
            attack.is_signed(cancel, binding, *QUORUM)
        else:
            attack.refuses_intent("too_many_alternatives", canonical.encode(cancel), binding, *QUORUM)


def test_t14_two_transactions_on_one_nonce_or_sequence(attack: ProcessAttack, keys: Keys) -> None:
    attack.is_signed(make_transfer(keys["secp256k1"], now()), bind_evm(20), *QUORUM)
    attack.refuses_intent("slot_used", transfer(keys), bind_evm(20), *QUORUM)
    first = make_payment(keys["ed25519"], now())
    attack.is_signed(first, bind_stellar(first, 21), *QUORUM)
    second = make_payment(keys["ed25519"], now())
    attack.refuses_intent("slot_used", canonical.encode(second), bind_stellar(second, 21), *QUORUM)
    attack.refuses_intent("already_bound", canonical.encode(first), bind_stellar(first, 22), *QUORUM)


def test_t14_a_transaction_that_stays_valid_for_ever(attack: ProcessAttack, keys: Keys) -> None:
    intent = make_payment(keys["ed25519"], now())
    bound = bind_stellar(intent, 23)
    for binding in (
        replace(bound, max_time=0),
        replace(bound, max_time=intent.expires_at + 1),
        replace(bound, max_time=2**64 - 1),
        replace(bound, sequence=2**63),
        replace(bound, sequence=-1),
        replace(bound, min_ledger=10, max_ledger=9),
    ):
        attack.refuses_intent("bad_binding", canonical.encode(intent), binding, *QUORUM)


def test_t16_t17_a_hash_is_signed_for_nobody(attack: ProcessAttack, keys: Keys) -> None:
    for name in ("SignHash", "SignRaw", "SignMessage", "Decrypt", "Unwrap", "Export"):
        attack.refuses_bytes(
            "malformed_message",
            json.dumps({"type": name, "key_id": keys["ed25519"].key_id, "hash": "00" * 32}).encode(),
        )


@pytest.mark.parametrize(
    "amount",
    ["0", "-1", "+1", "1.5", "1e3", "01", " 1", "1 ", "0x1", "١", "9223372036854775808", "2" * 79, ""],
)
def test_t18_amounts_that_are_no_amounts(attack: ProcessAttack, keys: Keys, amount: str) -> None:
    attack.refuses_intent("malformed_intent", changed(payment(keys), amount=amount), bind_evm(913), *QUORUM)


def test_t19_money_to_nobody_or_to_itself(attack: ProcessAttack, keys: Keys) -> None:
    own, data = keys["secp256k1"].address, transfer(keys)
    for destination in (own, "0x" + "0" * 39 + "1", "0x" + "0" * 36 + "ffff"):
        attack.refuses_intent(
            "malformed_intent", changed(data, destination=destination), bind_evm(914), *QUORUM
        )
    token = canonical.encode(make_erc20(keys["secp256k1"], now()))
    for destination in (TOKEN, own):
        attack.refuses_intent(
            "malformed_intent", changed(token, destination=destination), bind_evm(914), *QUORUM
        )
    self_payment = changed(payment(keys), destination=keys["ed25519"].address)
    attack.refuses_intent("malformed_intent", self_payment, bind_evm(914), *QUORUM)


def test_a21_t20_twins_of_the_approved_bytes(attack: ProcessAttack, keys: Keys) -> None:
    data = payment(keys)
    text = data.decode()
    twins = [
        text.replace(",", ", ", 1),
        text.replace('"amount"', '"\\u0061mount"'),
        text[:-1] + ',"amount":"1"}',
        "[" + text + "," + text + "]",
        text.replace('"v":"1"', '"v":1'),
        json.dumps(dict(reversed(json.loads(text).items())), separators=(",", ":")),
        text + "\n",
        "\ufeff" + text,
    ]
    for twin in twins:
        attack.refuses_intent(
            "malformed_intent", twin.encode(), bind_stellar(canonical.decode(data), 915), *QUORUM
        )


REFERRING = {
    "evm_sweep": "foreign_destination", "evm_erc20_sweep": "foreign_destination", "evm_replace": "unknown_intent",
    "evm_cancel": "unknown_intent", "stellar_fee_bump": "unknown_intent", "stellar_channel_payment": "unknown_channel",
    "stellar_account_merge": "foreign_destination",
}  # fmt: skip
"""Kinds that name something of ours, which the sample does not."""
NAMED_ONLY = {
    "evm_erc20_approve",
    "evm_message",
    "stellar_create_claimable_balance",
    "stellar_message",
    "stellar_set_options",
}
"""Kinds that a rule about all kinds does not speak of."""


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_every_kind_is_refused_without_a_quorum(attack: ProcessAttack, keys: Keys, kind: str) -> None:
    intent: Intent = make_kind(kind, keys[curve_of_kind(kind)], now())
    code = REFERRING.get(kind, "no_rule" if kind in NAMED_ONLY else "quorum_missing")
    attack.refuses_intent(code, canonical.encode(intent), bind_kind(intent, 916), "alice")
