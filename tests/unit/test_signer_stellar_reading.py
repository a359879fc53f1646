"""A payment read back from its bytes: always what the SDK reads, never anything that the SDK reads otherwise."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stellar_sdk import MuxedAccount, xdr

from signer.build import stellar
from signer.build.stellar_operations import raw_asset, read_account, read_effect
from signer.build.stellar_reading import Payment, check_payment, read_payment
from signer.protocol.intent import StellarChannelPayment
from signer.protocol.messages import StellarBinding
from signer.refusal import Refusal
from tests.fakes.signer_bytes import build, make
from tests.fakes.signer_people import CUSTOMER, ISSUER, PASSPHRASE

KINDS = ("stellar_payment", "stellar_channel_payment")
MUXED = MuxedAccount(CUSTOMER, 2**64 - 1).account_muxed

memos = st.one_of(
    st.just(("none", "")),
    st.from_regex(r"[ -~]{1,28}", fullmatch=True).map(lambda text: ("text", text)),
    st.integers(0, 2**64 - 1).map(lambda number: ("id", str(number))),
    st.binary(min_size=32, max_size=32).map(lambda raw: ("hash", raw.hex())),
)
bindings = st.builds(
    StellarBinding,
    sequence=st.integers(1, 2**63 - 1),
    max_time=st.integers(1, 2**40),
    min_ledger=st.integers(0, 2**32 - 1),
    max_ledger=st.integers(0, 2**32 - 1),
    fee=st.integers(100, 2**32 - 1),
)
assets = st.one_of(
    st.just("native"),
    st.from_regex(r"[A-Za-z0-9]{1,12}", fullmatch=True).map(lambda code: f"{code}:{ISSUER}"),
)


def by_sdk(unsigned: bytes) -> Payment:
    """The oracle: the same values by way of the SDK's classes; raises Refusal when they have another spelling."""
    tx = stellar._transaction_of(unsigned, PASSPHRASE)
    bounds = stellar._bounds_of(tx.cond)
    assert bounds is not None
    least, greatest, ledgers = bounds
    (operation,) = tx.operations
    effect: Any = read_effect(operation.body)
    name, destination, asset, amount = effect
    assert (name, tx.ext.v) == ("payment", 0)
    return Payment(
        network_id=unsigned[:32],
        sender=read_account(tx.source_account),
        fee=tx.fee.uint32,
        sequence=tx.seq_num.sequence_number.int64,
        min_time=least,
        max_time=greatest,
        ledgers=ledgers or (0, 0),
        memo=stellar._memo_of(tx.memo),
        source=stellar._source_of(operation),
        destination=destination,
        asset=asset,
        amount=amount,
    )


@st.composite
def payments(draw: st.DrawFn) -> tuple[Any, StellarBinding, bytes]:
    memo_type, memo = draw(memos)
    intent = make(
        draw(st.sampled_from(KINDS)),
        asset=draw(assets),
        amount=draw(st.integers(1, 2**63 - 1)),
        destination=draw(st.sampled_from((CUSTOMER, ISSUER, MUXED))),
        memo_type=memo_type,
        memo=memo,
    )
    binding = draw(bindings)
    return intent, binding, stellar.build_unsigned(intent, binding, PASSPHRASE)


@settings(max_examples=200, deadline=None)
@given(built=payments())
def test_what_is_built_is_read_as_the_sdk_reads_it(built: tuple[Any, StellarBinding, bytes]) -> None:
    intent, _, unsigned = built
    read = read_payment(unsigned)
    assert read == by_sdk(unsigned)
    assert (read.amount, read.asset, read.memo) == (
        intent.amount,
        raw_asset(intent.asset),
        (intent.memo_type, intent.memo),
    )
    assert bool(read.source) is isinstance(intent, StellarChannelPayment)


@settings(max_examples=600, deadline=None)
@given(
    built=payments(),
    at=st.integers(0, 400),
    change=st.sampled_from(("flip", "drop", "insert", "cut", "append")),
    byte=st.integers(1, 255),
)
def test_changed_bytes_are_refused_or_read_as_the_sdk_reads_them_and_never_pass_for_the_intent(
    built: tuple[Any, StellarBinding, bytes], at: int, change: str, byte: int
) -> None:
    intent, binding, unsigned = built
    at %= len(unsigned)
    other = {
        "flip": unsigned[:at] + bytes([unsigned[at] ^ byte]) + unsigned[at + 1 :],
        "drop": unsigned[:at] + unsigned[at + 1 :],
        "insert": unsigned[:at] + bytes([byte]) + unsigned[at:],
        "cut": unsigned[:at],
        "append": unsigned + bytes([byte]),
    }[change]
    if other == unsigned:
        return
    with pytest.raises(Refusal) as refused:
        check_payment(other, intent, binding, stellar.sender_of(intent))
    assert refused.value.code == "bad_request"
    try:
        read = read_payment(other)
    except Refusal:
        return
    # A network id is any 32 bytes to the reader; the SDK's way holds it against the passphrase.
    assert read == by_sdk(unsigned[:32] + other[32:])._replace(network_id=other[:32])


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(Refusal):
        read_payment(data)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 1},
        {"destination": ISSUER},
        {"destination": MUXED},
        {"asset": f"USDT:{ISSUER}"},
        {"asset": f"USDC:{CUSTOMER}"},
        {"memo_type": "none", "memo": ""},
        {"memo": "8"},
        {"source": ISSUER},
        {"network_id": "00" * 32},
    ],
    ids=str,
)
def test_bytes_of_another_payment_are_refused(kind: str, changes: dict[str, Any]) -> None:
    intent = make(kind, asset=f"USDC:{ISSUER}", memo_type="id", memo="7")
    unsigned, binding = build(intent)
    check_payment(unsigned, intent, binding, stellar.sender_of(intent))
    other = replace(intent, **changes)
    with pytest.raises(Refusal):
        check_payment(unsigned, other, binding, stellar.sender_of(other))


@pytest.mark.parametrize("name", ["sequence", "fee", "max_time", "min_ledger", "max_ledger"])
def test_bytes_of_another_binding_are_refused(name: str) -> None:
    intent = make("stellar_payment")
    unsigned, binding = build(intent)
    other = replace(binding, **{name: getattr(binding, name) + 1})
    with pytest.raises(Refusal):
        check_payment(unsigned, intent, other, intent.source)


def test_a_channel_lends_its_number_and_nothing_else() -> None:
    intent = make("stellar_channel_payment")
    unsigned, binding = build(intent)
    with pytest.raises(Refusal):
        check_payment(unsigned, intent, binding, intent.source)


@pytest.mark.parametrize("kind", ["stellar_account_merge", "stellar_change_trust", "stellar_create_account"])
def test_no_other_operation_is_read_as_a_payment(kind: str) -> None:
    unsigned, _ = build(make(kind))
    assert isinstance(stellar._transaction_of(unsigned, PASSPHRASE), xdr.Transaction)
    with pytest.raises(Refusal):
        read_payment(unsigned)
