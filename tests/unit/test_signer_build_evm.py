"""EVM bytes of the kinds beyond transfers, and messages of both chains, judged by eth_account and the Stellar SDK."""

from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import decode as abi_decode
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes
from hypothesis import given, settings
from hypothesis import strategies as st
from stellar_sdk import Keypair

from signer.build import assembly, evm, message
from signer.build.assembly import Earlier
from signer.protocol.canonical import KINDS
from signer.protocol.intent import EvmCall
from signer.protocol.intents.message import write_text
from signer.protocol.messages import EvmBinding, NoBinding
from signer.refusal import HsmFault, Refusal
from tests.fakes.signer_hsm import START, FakeToken
from tests.fakes.signer_kinds import OTHER, SAMPLES, bind_kind, make_kind
from tests.fakes.signer_people import RECEIVER, TOKEN, bind_evm, bind_stellar, key_view, make_payment

HSM = FakeToken()
KEY = key_view(HSM, "secp256k1")
STELLAR = key_view(HSM, "ed25519", b"stellar." * 2)
CALLS = sorted(
    kind for kind, row in KINDS.items() if kind.startswith("evm_") and issubclass(row.shape, EvmCall)
)


def make(kind: str, **changes: Any) -> Any:
    return make_kind(kind, KEY, START, **changes)


def signed(intent: Any, unsigned: bytes, key: Any = KEY) -> tuple[bytes, str]:
    hashed = assembly.message_of(intent, unsigned)
    signature = HSM.sign(bytes.fromhex(key.key_id), key.curve, hashed)
    return assembly.finish(intent, unsigned, {bytes.fromhex(key.public_key): signature}, {})


def build(intent: Any, nonce: int = 0, earlier: Earlier | None = None) -> bytes:
    return assembly.build_unsigned(intent, bind_evm(nonce), earlier, {}, START)


def expected(kind: str, intent: Any) -> tuple[str, int, str, tuple[object, ...]]:
    """To, value, signature of the called function and its arguments."""
    if kind in ("evm_transfer", "evm_sweep"):
        return intent.destination, intent.amount, "", ()
    if kind == "evm_fill":
        return intent.source, 0, "", ()
    if kind == "evm_erc20_approve":
        return TOKEN, 0, "approve(address,uint256)", (intent.spender.lower(), intent.amount)
    return TOKEN, 0, "transfer(address,uint256)", (intent.destination.lower(), intent.amount)


@pytest.mark.parametrize("kind", CALLS)
def test_a_call_recovers_to_the_key_and_says_what_was_approved(kind: str) -> None:
    intent = make(kind)
    tx, tx_hash = signed(intent, build(intent, 7))
    assert Account.recover_transaction(tx) == KEY.address
    read = TypedTransaction.from_bytes(HexBytes(tx))
    fields = read.as_dict()
    to, value, function, arguments = expected(kind, intent)
    assert (HexBytes(fields["to"]), fields["value"]) == (HexBytes(to), value)
    assert tx_hash == evm.keccak256(tx).hex()
    assert (fields["chainId"], fields["nonce"], fields["gas"], fields["type"]) == (
        31337,
        7,
        intent.gas_limit,
        2,
    )
    assert not fields["accessList"]
    if function:
        assert fields["data"][:4] == evm.keccak256(function.encode())[:4]
        assert abi_decode(["address", "uint256"], bytes(fields["data"][4:])) == arguments
    else:
        assert fields["data"] == b""


@settings(max_examples=100, deadline=None)
@given(amount=st.integers(0, 2**96 - 2), nonce=st.integers(0, 2**64 - 2))
def test_an_approval_of_any_bounded_amount_equals_that_of_eth_account(amount: int, nonce: int) -> None:
    intent = make("evm_erc20_approve", amount=amount)
    data = "0x095ea7b3" + RECEIVER[2:].lower().rjust(64, "0") + f"{amount:064x}"
    oracle = TypedTransaction.from_dict({
        "type": 2, "chainId": 31337, "nonce": nonce, "gas": intent.gas_limit, "maxFeePerGas": 20 * 10**9,
        "maxPriorityFeePerGas": 10**9, "to": TOKEN, "value": 0, "data": data,
    })  # fmt: skip
    assert evm.message_of(build(intent, nonce)) == oracle.hash()


@pytest.mark.parametrize("kind", CALLS)
def test_a_replacement_differs_in_nothing_but_the_price(kind: str) -> None:
    first = make(kind)
    tx, _ = signed(first, build(first, 3))
    earlier = Earlier(intent=first, binding=bind_evm(3), tx=tx)
    intent = make("evm_replace")
    dearer = EvmBinding(nonce=3, max_fee_per_gas=25 * 10**9, max_priority_fee_per_gas=2 * 10**9)
    unsigned = assembly.build_unsigned(intent, dearer, earlier, {}, START)
    replacement, _ = signed(intent, unsigned)
    old, new = (TypedTransaction.from_bytes(HexBytes(data)).as_dict() for data in (tx, replacement))
    assert Account.recover_transaction(replacement) == KEY.address
    assert (new["maxFeePerGas"], new["maxPriorityFeePerGas"]) == (25 * 10**9, 2 * 10**9)
    for name in ("to", "value", "data", "nonce", "gas", "chainId", "accessList", "type"):
        assert old[name] == new[name]


def test_a_replacement_without_the_intent_that_it_replaces_is_refused() -> None:
    intent = make("evm_replace")
    for earlier in (None, Earlier(intent=make("evm_cancel"), binding=bind_evm(0), tx=b"")):
        with pytest.raises(Refusal, match="unknown_intent"):
            build(intent, 0, earlier)


def test_a_cancel_sends_nothing_to_itself() -> None:
    intent = make("evm_cancel")
    tx, _ = signed(intent, build(intent, 9))
    fields = TypedTransaction.from_bytes(HexBytes(tx)).as_dict()
    assert Account.recover_transaction(tx) == KEY.address
    assert (HexBytes(fields["to"]), fields["value"], fields["data"], fields["nonce"]) == (
        HexBytes(KEY.address),
        0,
        b"",
        9,
    )


@pytest.mark.parametrize("kind", [*CALLS, "evm_cancel"])
@pytest.mark.parametrize("other", [*CALLS, "evm_cancel"])
def test_the_bytes_of_one_kind_are_not_those_of_another(kind: str, other: str) -> None:
    intent, wrong = make(kind), make(other)
    unsigned = build(intent)
    evm._check_fields(unsigned, intent, bind_evm(0), intent)
    if kind != other and {kind, other} != {"evm_fill", "evm_cancel"}:
        with pytest.raises(Refusal):
            evm._check_fields(unsigned, wrong, bind_evm(0), wrong)


_CHANGED = {
    "destination": TOKEN,
    "spender": OTHER,
    "token": OTHER,
    "amount": 5,
    "gas_limit": 60_001,
    "chain_id": 1,
}


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind in CALLS for field in sorted({*SAMPLES[kind], "chain_id"} & set(_CHANGED))],
)
def test_every_field_of_the_effect_is_compared(kind: str, field: str) -> None:
    intent = make(kind)
    changed = replace(intent, **{field: _CHANGED[field]})
    with pytest.raises(Refusal):
        evm._check_fields(build(intent), changed, bind_evm(0), changed)


def test_signed_bytes_are_the_unsigned_ones_and_a_signature() -> None:
    intent = make("evm_transfer")
    unsigned = build(intent)
    tx, _ = signed(intent, unsigned)
    assert evm.TYPE + evm._encode(evm._decode(tx)[:9]) == unsigned
    assert len(evm._decode(tx)) == 12
    with pytest.raises(HsmFault):
        assembly.finish(intent, unsigned, {}, {})
    with pytest.raises(Refusal):
        evm._decode(tx[:-1])


# --- messages -------------------------------------------------------------------------------------------------------------

_TEXTS = st.text(
    st.one_of(st.characters(min_codepoint=0x20, max_codepoint=0x7E), st.just("\n")), min_size=1, max_size=80
)


@settings(max_examples=100, deadline=None)
@given(text=_TEXTS)
def test_an_evm_message_is_the_personal_message_of_eth_account(text: str) -> None:
    intent = make("evm_message", text=write_text(text))
    whole = f"Proof of control of {KEY.address}\n{text}"
    unsigned = assembly.build_unsigned(intent, NoBinding(), None, {}, START)
    signature, hashed = signed(intent, unsigned)
    assert Account.recover_message(encode_defunct(text=whole), signature=signature) == KEY.address
    assert len(signature) == 65
    assert int.from_bytes(signature[32:64], "big") <= evm.CURVE_ORDER // 2
    assert bytes.fromhex(hashed) == evm.keccak256(unsigned)


@settings(max_examples=100, deadline=None)
@given(text=_TEXTS)
def test_a_stellar_message_verifies_as_sep_53(text: str) -> None:
    intent = make_kind("stellar_message", STELLAR, START, text=write_text(text))
    unsigned = assembly.build_unsigned(intent, NoBinding(), None, {}, START)
    signature, hashed = signed(intent, unsigned, STELLAR)
    Keypair.from_public_key(STELLAR.address).verify_message(
        f"Proof of control of {STELLAR.address}\n{text}", signature
    )
    assert len(bytes.fromhex(hashed)) == 32


@pytest.mark.parametrize("kind", ["evm_message", "stellar_message"])
def test_a_message_of_another_text_prefix_or_address_is_refused(kind: str) -> None:
    key = STELLAR if kind == "stellar_message" else KEY
    intent = make_kind(kind, key, START, text="one")
    built = message.build_unsigned(intent)
    message._check_fields(built, intent)
    other = "evm_message" if kind == "stellar_message" else "stellar_message"
    for data, wrong in (
        (built + b"x", intent),
        (built[:-1], intent),
        (b"\x19" + built, intent),
        (built[1:], intent),
        (built.replace(b"Proof of", b"Roof of"), intent),
        (built.replace(b"\n", b" "), intent),
        (b"", intent),
        (built, replace(intent, text="two")),
        (built, replace(intent, source=RECEIVER)),
        (built, make_kind(other, key, START, text="one")),
    ):
        with pytest.raises(Refusal):
            message._check_fields(data, wrong)


def test_a_message_signature_of_another_key_never_leaves() -> None:
    for kind, key in (("evm_message", KEY), ("stellar_message", STELLAR)):
        intent = make_kind(kind, key, START)
        unsigned = message.build_unsigned(intent)
        for signature in (bytes(64), b"\xff" * 64, HSM.sign(bytes(range(16)), key.curve, bytes(32))):
            with pytest.raises(HsmFault):
                assembly.finish(intent, unsigned, {bytes.fromhex(key.public_key): signature}, {})


def test_a_message_is_bound_to_nothing_and_a_transaction_to_something() -> None:
    bindings = (bind_evm(0), bind_stellar(make_payment(STELLAR, START), 1))
    for binding in bindings:
        with pytest.raises(Refusal, match="bad_binding"):
            assembly.build_unsigned(make("evm_message"), binding, None, {}, START)
    for kind in ("evm_transfer", "evm_cancel"):
        for wrong in (NoBinding(), bindings[1], bind_kind(make_kind("stellar_fee_bump", STELLAR, START), 1)):
            with pytest.raises(Refusal, match="bad_binding"):
                assembly.build_unsigned(make(kind), wrong, None, {}, START)
