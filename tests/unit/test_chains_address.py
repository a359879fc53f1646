"""Addresses: what is accepted, in which spelling, and what never is."""

from __future__ import annotations

import coincurve
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stellar_sdk import Keypair, StrKey

from custody.chains import address
from custody.chains.errors import InvalidAddress, UnsupportedChain
from custody.chains.evm.address import account_of_key, checksum, parse_address
from custody.chains.stellar.address import MAX_TAG, muxed, parse_account, parse_destination
from custody.kernel.assetid import ChainId

STELLAR = ChainId("stellar:devnet")
EVM = ChainId("eip155:31337")
ACCOUNT = "GA7QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJVSGZ"
MUXED = "MA7QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJUAAAAAAAAAAAACJUQ"
"""Source: SEP-23, the account and its muxed form with id 0."""


@pytest.mark.parametrize(
    "text",
    [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ],
)
def test_the_checksums_of_the_standard_are_kept(text: str) -> None:
    """Source: EIP-55, test cases."""
    assert parse_address(text) == text
    assert parse_address(text.lower()) == text
    assert parse_address("0x" + text[2:].upper()) == text


@pytest.mark.parametrize(
    "text",
    [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD",
        "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beae",
        "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaedd",
        "5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
        "0X5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
        "0x" + "0" * 40,
        " 0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
        "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaeg",
        "",
        ACCOUNT,
    ],
)
def test_a_wrong_checksum_length_or_alphabet_is_no_evm_address(text: str) -> None:
    with pytest.raises(InvalidAddress):
        address.parse(EVM, text)


def test_a_secp256k1_key_controls_the_address_that_ethereum_says() -> None:
    """Source: the first account of the well-known development mnemonic."""
    secret = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
    public = coincurve.PrivateKey(secret).public_key
    expected = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    for encoded in (public.format(compressed=True), public.format(compressed=False)):
        assert account_of_key(encoded) == expected
    assert account_of_key(public.format(compressed=False)[1:]) == expected


@pytest.mark.parametrize("key", [b"", b"\x02" * 32, b"\x04" + b"\xff" * 64, b"\x05" * 33])
def test_bytes_that_are_no_point_have_no_address(key: bytes) -> None:
    with pytest.raises(InvalidAddress):
        address.account_of_key(EVM, key)


@given(raw=st.binary(min_size=20, max_size=20).filter(any))
def test_every_address_survives_its_own_checksum(raw: bytes) -> None:
    spelled = checksum("0x" + raw.hex())
    assert parse_address(spelled) == spelled
    assert spelled.lower() == "0x" + raw.hex()


def test_a_muxed_address_names_its_account_and_tag() -> None:
    assert parse_destination(ACCOUNT).tag is None
    found = parse_destination(MUXED)
    assert (found.account, found.tag, found.address) == (ACCOUNT, 0, MUXED)


@given(raw=st.binary(min_size=32, max_size=32), tag=st.integers(0, MAX_TAG))
def test_a_tag_survives_its_address(raw: bytes, tag: int) -> None:
    account = StrKey.encode_ed25519_public_key(raw)
    found = address.parse(STELLAR, muxed(account, tag))
    assert (found.account, found.tag) == (account, tag)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ACCOUNT[:-1],
        ACCOUNT[:-1] + "A",
        ACCOUNT.lower(),
        MUXED[:-1] + "A",
        Keypair.from_raw_ed25519_seed(bytes(range(32))).secret,
        StrKey.encode_contract(bytes(32)),
        StrKey.encode_liquidity_pool(bytes(32)),
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        ACCOUNT + "\n",
    ],
)
def test_anything_else_is_no_stellar_destination(text: str) -> None:
    with pytest.raises(InvalidAddress):
        address.parse(STELLAR, text)


@pytest.mark.parametrize("tag", [-1, MAX_TAG + 1])
def test_a_tag_outside_64_bits_has_no_address(tag: int) -> None:
    with pytest.raises(InvalidAddress):
        muxed(ACCOUNT, tag)


def test_an_account_is_not_a_muxed_address() -> None:
    assert parse_account(ACCOUNT) == ACCOUNT
    with pytest.raises(InvalidAddress):
        parse_account(MUXED)


def test_an_unknown_kind_of_chain_has_no_addresses() -> None:
    for call in (
        lambda: address.parse(ChainId("bip122:0"), ACCOUNT),
        lambda: address.curve_of(ChainId("bip122:0")),
        lambda: address.account_of_key(ChainId("bip122:0"), bytes(32)),
    ):
        with pytest.raises(UnsupportedChain):
            call()
