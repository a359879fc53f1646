"""Transaction bytes: equal to what independent libraries build, and refused when they are not the approved ones."""

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import rlp
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes
from hypothesis import given, settings
from hypothesis import strategies as st
from stellar_sdk import Account as StellarAccount
from stellar_sdk import Asset, Keypair, MuxedAccount, TransactionBuilder, TransactionEnvelope

from signer.build import evm, stellar
from signer.build.address import checksummed
from signer.protocol.intent import StellarPayment
from signer.protocol.messages import EvmBinding, KeyView, StellarBinding
from signer.refusal import HsmFault, Refusal
from tests.fakes.signer_hsm import START, FakeToken
from tests.fakes.signer_people import (
    CUSTOMER,
    ISSUER,
    PASSPHRASE,
    RECEIVER,
    bind_evm,
    bind_stellar,
    key_view,
    make_anchor,
    make_erc20,
    make_payment,
    make_transfer,
    make_trust,
)

HSM = FakeToken()
KEY_ID = bytes(range(16))


def make_key(curve: str) -> tuple[KeyView, bytes]:
    view = key_view(HSM, curve, KEY_ID)
    return view, bytes.fromhex(view.public_key)


@settings(max_examples=100, deadline=None)
@given(
    amount=st.integers(1, 2**256 - 1),
    nonce=st.integers(0, 2**64 - 2),
    chain_id=st.integers(1, 2**53),
    gas=st.integers(21_000, 2**24),
    fee=st.integers(1, 2**96 - 1),
    tip=st.integers(0, 2**96 - 1),
    token=st.booleans(),
)
def test_evm_bytes_equal_those_of_eth_account(
    amount: int,
    nonce: int,
    chain_id: int,
    gas: int,
    fee: int,
    tip: int,
    token: bool,
) -> None:
    view, public = make_key("secp256k1")
    tip = min(fee, tip)
    changes = {
        "amount": amount, "chain_id": chain_id, "chain": f"eip155:{chain_id}", "gas_limit": gas,
        "max_fee_per_gas": fee, "max_priority_fee_per_gas": tip,
    }  # fmt: skip
    intent: Any = replace(make_erc20(view, START) if token else make_transfer(view, START), **changes)
    binding = EvmBinding(nonce=nonce, max_fee_per_gas=fee, max_priority_fee_per_gas=tip)
    evm.check_binding(intent, binding)
    unsigned = evm.build_unsigned(intent, binding, intent)
    data = "0x"
    if token:
        data = "0xa9059cbb" + RECEIVER[2:].lower().rjust(64, "0") + f"{amount:064x}"
    oracle = TypedTransaction.from_dict(
        {
            "type": 2, "chainId": chain_id, "nonce": nonce, "gas": gas, "maxFeePerGas": fee,
            "maxPriorityFeePerGas": tip, "to": intent.token if token else RECEIVER,
            "value": 0 if token else amount, "data": data,
        }
    )  # fmt: skip
    assert oracle.hash() == evm.message_of(unsigned)
    tx, tx_hash = evm.finish(unsigned, HSM.sign(KEY_ID, "secp256k1", evm.message_of(unsigned)), public)
    assert Account.recover_transaction(tx) == view.address
    assert TypedTransaction.from_bytes(HexBytes(tx)).hash() == oracle.hash()
    assert tx_hash == evm.keccak256(tx).hex()


@settings(max_examples=100, deadline=None)
@given(
    amount=st.integers(1, 2**63 - 1),
    sequence=st.integers(1, 2**63 - 1),
    fee=st.integers(100, 2**32 - 1),
    max_ledger=st.integers(0, 2**32 - 1),
    code=st.sampled_from(["native", "A", "USDC", "USDCX", "LONGCODE1234"]),
    memo=st.sampled_from(
        [("none", ""), ("id", "18446744073709551615"), ("text", 'a "b" \\'), ("hash", "ab" * 32)]
    ),
    tag=st.one_of(st.none(), st.integers(0, 2**64 - 1)),
)
def test_stellar_bytes_equal_those_of_the_sdk(
    amount: int, sequence: int, fee: int, max_ledger: int, code: str, memo: tuple[str, str], tag: int | None
) -> None:
    view, public = make_key("ed25519")
    if tag is not None:
        memo = ("none", "")
    destination = CUSTOMER if tag is None else MuxedAccount(CUSTOMER, tag).account_muxed
    intent = make_payment(
        view, START, amount=amount, max_fee=fee, destination=destination, memo_type=memo[0], memo=memo[1],
        asset=code if code == "native" else f"{code}:{ISSUER}",
    )  # fmt: skip
    binding = StellarBinding(
        sequence=sequence, max_time=intent.expires_at, min_ledger=0, max_ledger=max_ledger, fee=fee
    )
    stellar.check_binding(intent, binding, START)
    unsigned = stellar.build_unsigned(intent, binding, PASSPHRASE)
    signature = HSM.sign(KEY_ID, "ed25519", stellar.message_of(unsigned))
    tx, tx_hash = stellar.finish(unsigned, {public: signature}, intent, PASSPHRASE)

    builder = TransactionBuilder(StellarAccount(view.address, sequence - 1), PASSPHRASE, base_fee=fee)
    asset = Asset.native() if code == "native" else Asset(code, ISSUER)
    builder.append_payment_op(destination, asset, f"{amount // 10**7}.{amount % 10**7:07d}")
    builder.add_time_bounds(0, intent.expires_at)
    if max_ledger:
        builder.set_ledger_bounds(0, max_ledger)
    if memo[0] == "id":
        builder.add_id_memo(int(memo[1]))
    if memo[0] == "text":
        builder.add_text_memo(memo[1])
    if memo[0] == "hash":
        builder.add_hash_memo(memo[1])
    oracle = builder.build()
    assert oracle.hash_hex() == tx_hash
    envelope = TransactionEnvelope.from_xdr(base64.b64encode(tx).decode(), PASSPHRASE)
    assert envelope.hash() == oracle.hash()
    Keypair.from_public_key(view.address).verify(envelope.hash(), envelope.signatures[0].signature)


def test_evm_bytes_of_another_intent_are_refused() -> None:
    view, _ = make_key("secp256k1")
    intent, token = make_transfer(view, START), make_erc20(view, START)
    built = evm.build_unsigned(intent, bind_evm(0), intent)
    others = [
        replace(intent, amount=1),
        replace(intent, destination=token.token),
        replace(intent, gas_limit=21_001),
        replace(intent, chain_id=1),
        token,
    ]
    for other in others:
        with pytest.raises(Refusal):
            evm._check_fields(built, other, bind_evm(0), other)
    tail = evm._encode([*evm._decode(built), b""])
    for spoiled in (built[:-1], b"\x01" + built[1:], built + b"\x00", built[:1] + b"\xc0", built[:1] + tail):
        with pytest.raises(Refusal):
            evm._check_fields(spoiled, intent, bind_evm(0), intent)
    with pytest.raises(Refusal):
        evm._check_fields(built, intent, bind_evm(1), intent)


@pytest.mark.parametrize("access", [[b"\x01"], [[b"\x05" * 20, [bytes(32)]]], b""])
def test_an_access_list_is_refused(access: Any) -> None:
    view, _ = make_key("secp256k1")
    intent = make_transfer(view, START)
    *fields, _ = evm._decode(evm.build_unsigned(intent, bind_evm(0), intent))
    with pytest.raises(Refusal):
        evm._check_fields(b"\x02" + rlp.encode([*fields, access]), intent, bind_evm(0), intent)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data + b"\x00",
        lambda data: data[:4] + b"\x01" + data[5:],
        lambda data: b"\x23\xb8\x72\xdd" + data[4:],
        lambda data: data[:-1],
        lambda data: b"",
    ],
)
def test_calldata_with_anything_else_in_it_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    view, _ = make_key("secp256k1")
    intent = make_erc20(view, START)
    fields = evm._decode(evm.build_unsigned(intent, bind_evm(0), intent))
    fields[7] = spoil(bytes(fields[7]))
    with pytest.raises(Refusal):
        evm._check_fields(b"\x02" + rlp.encode(fields), intent, bind_evm(0), intent)


def test_stellar_bytes_of_another_intent_are_refused() -> None:
    view, _ = make_key("ed25519")
    intent = make_payment(view, START, asset=f"USDC:{ISSUER}", memo_type="id", memo="7")
    binding = bind_stellar(intent, 5)
    tx = stellar._transaction_of(stellar.build_unsigned(intent, binding, PASSPHRASE), PASSPHRASE)
    others: list[Any] = [
        replace(intent, amount=1),
        replace(intent, destination=ISSUER),
        replace(intent, destination=MuxedAccount(CUSTOMER, 1).account_muxed),
        replace(intent, asset="native"),
        replace(intent, asset=f"USDT:{ISSUER}"),
        replace(intent, asset=f"USDC:{CUSTOMER}"),
        replace(intent, memo="8"),
        replace(intent, memo_type="none", memo=""),
        replace(intent, source=ISSUER),
        make_trust(view, START),
        make_anchor(view, START),
    ]
    for other in others:
        with pytest.raises(Refusal):
            stellar._check_fields(tx, other, binding)
    for changes in ({"sequence": 6}, {"fee": 999}, {"max_time": 1}, {"max_ledger": 0}, {"min_ledger": 1}):
        with pytest.raises(Refusal):
            stellar._check_fields(tx, intent, replace(binding, **changes))


def test_an_anchor_pays_itself_one_stroop_and_carries_its_hash() -> None:
    view, _ = make_key("ed25519")
    intent = make_anchor(view, START)
    binding = bind_stellar(intent, 5)
    unsigned = stellar.build_unsigned(intent, binding, PASSPHRASE)
    builder = TransactionBuilder(StellarAccount(view.address, 4), PASSPHRASE, base_fee=binding.fee)
    builder.append_payment_op(view.address, Asset.native(), "0.0000001").add_hash_memo(intent.hash)
    oracle = builder.add_time_bounds(0, binding.max_time).set_ledger_bounds(0, binding.max_ledger).build()
    assert oracle.hash() == stellar.message_of(unsigned)
    tx = stellar._transaction_of(unsigned, PASSPHRASE)
    others: list[Any] = [
        replace(intent, hash="5b" * 32),
        replace(intent, source=CUSTOMER),
        make_payment(view, START, amount=1, memo_type="hash", memo=intent.hash),
        make_trust(view, START),
    ]
    for other in others:
        with pytest.raises(Refusal):
            stellar._check_fields(tx, other, binding)


@pytest.mark.parametrize(
    ("amount", "asset", "receiver"),
    [("0.0000002", "native", ""), ("0.0000001", "USD", ""), ("0.0000001", "native", CUSTOMER)],
)
def test_any_other_payment_is_no_anchor(amount: str, asset: str, receiver: str) -> None:
    view, _ = make_key("ed25519")
    intent = make_anchor(view, START)
    binding = bind_stellar(intent, 5)
    paid = Asset.native() if asset == "native" else Asset(asset, ISSUER)
    builder = TransactionBuilder(StellarAccount(view.address, 4), PASSPHRASE, base_fee=binding.fee)
    builder.append_payment_op(receiver or view.address, paid, amount).add_hash_memo(intent.hash)
    built = builder.add_time_bounds(0, binding.max_time).set_ledger_bounds(0, binding.max_ledger).build()
    tx = stellar._transaction_of(built.signature_base(), PASSPHRASE)
    with pytest.raises(Refusal):
        stellar._check_fields(tx, intent, binding)


def test_another_network_is_another_signature_base() -> None:
    view, _ = make_key("ed25519")
    intent = make_payment(view, START)
    unsigned = stellar.build_unsigned(intent, bind_stellar(intent, 5), PASSPHRASE)
    with pytest.raises(Refusal):
        stellar._transaction_of(unsigned, "Public Global Stellar Network ; September 2015")
    with pytest.raises(Refusal):
        stellar.check_network(intent, {"stellar:devnet": "another"})


def test_a_signature_of_another_key_never_leaves() -> None:
    view, public = make_key("secp256k1")
    intent = make_transfer(view, START)
    unsigned = evm.build_unsigned(intent, bind_evm(0), intent)
    HSM.generate(bytes(16), "y", "secp256k1")
    foreign = HSM.sign(bytes(16), "secp256k1", evm.message_of(unsigned))
    for signature in (foreign, bytes(64), b"\xff" * 64):
        with pytest.raises(HsmFault):
            evm.finish(unsigned, signature, public)
    view, public = make_key("ed25519")
    payment: StellarPayment = make_payment(view, START)
    base = stellar.build_unsigned(payment, bind_stellar(payment, 1), PASSPHRASE)
    for signature in (bytes(64), b"\xff" * 64, b""):
        with pytest.raises(HsmFault):
            stellar.finish(base, {public: signature}, payment, PASSPHRASE)


@pytest.mark.parametrize(
    "address",
    [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ],
)
def test_eip_55_examples_hold(address: str) -> None:
    """Source: EIP-55, test cases."""
    assert checksummed(bytes.fromhex(address[2:])) == address
