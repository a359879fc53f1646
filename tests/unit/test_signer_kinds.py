"""Every kind of intent as bytes: one vector each, a round trip of every value, and what no kind accepts."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stellar_sdk import MuxedAccount

from signer.build.address import addresses_in
from signer.effects import INTO_VAULT, destinations_of
from signer.policy.effect import effect_of
from signer.policy.rules import parse_deny
from signer.protocol import canonical
from signer.protocol.canonical import KINDS, MalformedIntent
from signer.protocol.intent import EvmMessage, Intent
from signer.protocol.intents.message import DOMAIN_LINE, TEXT_MAX, message_bytes, read_text, write_text
from signer.refusal import StartupFault
from tests.fakes.signer_hsm import START, FakeToken
from tests.fakes.signer_kinds import CONTRACT, CREDIT, LONG, OTHER, SAMPLES, curve_of_kind, make_kind
from tests.fakes.signer_people import CUSTOMER, ISSUER, RECEIVER, TOKEN, key_view

HSM = FakeToken()
VECTORS = Path(__file__).parent.parent / "golden" / "intents"
SPEC = Path(canonical.__file__).with_name("SPEC.md")
PRECOMPILE = "0x000000000000000000000000000000000000000A"

# --- the table of kinds ---------------------------------------------------------------------------------------------------


def make(kind: str, **changes: Any) -> Intent:
    intent: Intent = make_kind(kind, key_view(HSM, curve_of_kind(kind)), START, **changes)
    return intent


def test_every_kind_has_a_sample_and_a_vector() -> None:
    shown = {json.loads(path.read_text())["kind"] for path in VECTORS.glob("*.json")}
    assert set(SAMPLES) == set(KINDS) == shown


def test_spec_names_every_kind_and_every_field() -> None:
    text = SPEC.read_text()
    for name, kind in KINDS.items():
        assert f"`{name}`" in text
        for field in kind.parsers:
            assert f"`{field}`" in text, field


def test_spec_lists_every_refusal_code() -> None:
    package = SPEC.parent.parent
    text = SPEC.read_text()
    codes = {
        code
        for path in package.rglob("*.py")
        for code in re.findall(r'(?:Refusal|MalformedIntent|ValueError)\(\s*"([a-z_0-9]+)"', path.read_text())
    }
    assert {"slot_used", "lock_out", "underpriced"} < codes
    assert {code for code in codes if f"`{code}`" not in text} <= {"bad_digest", "bad_approver_set_version"}


@pytest.mark.parametrize("kind", KINDS)
def test_parsers_and_shape_name_the_same_fields(kind: str) -> None:
    assert set(KINDS[kind].parsers) == {field.name for field in fields(KINDS[kind].shape)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_address_of_a_kind_is_checked(kind: str) -> None:
    """A field that holds an address or an asset under a name that the signer's check does not know would go unchecked."""
    intent = make(kind)
    held = {getattr(intent, field.name) for field in fields(intent)}
    known = {
        CUSTOMER,
        ISSUER,
        CONTRACT,
        RECEIVER,
        TOKEN,
        OTHER,
        intent.source,
        SAMPLES[kind].get("destination"),
    }
    expected = {str(value) for value in held & known}
    if any(text in str(value) for value in held for text in (CREDIT, LONG)):
        expected.add(ISSUER)
    assert expected == set(addresses_in(intent))


@pytest.mark.parametrize("kind", KINDS)
def test_policy_knows_every_kind(kind: str) -> None:
    scope = {"org": "*", "vault": "*", "key": "*", "chain": "*", "asset": "*", "destinations": ["*"]}
    assert parse_deny({"id": "x", **scope, "kind": kind}).scope.misses(effect_of(make(kind)), {}) == ()
    with pytest.raises(StartupFault):
        parse_deny({"id": "x", **scope, "kind": kind + "x"})


@pytest.mark.parametrize("kind", ["stellar_account_merge", "evm_sweep", "evm_erc20_sweep"])
def test_a_rule_may_list_the_vault_that_receives(kind: str) -> None:
    intent = make(kind)
    assert destinations_of(intent) == (getattr(intent, "destination"), INTO_VAULT + "treasury")  # noqa: B009  # typed loosely


# --- round trip -----------------------------------------------------------------------------------------------------------

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "org": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}", fullmatch=True),
    "policy_version": st.integers(1, 2**31 - 1),
    "destination_vault": st.sampled_from(["hot", "deposit", "treasury:1"]),
    "amount": st.integers(1, 2**63 - 1),
    "send_amount": st.integers(1, 2**63 - 1),
    "send_max": st.integers(1, 2**63 - 1),
    "dest_min": st.integers(1, 2**63 - 1),
    "dest_amount": st.integers(1, 2**63 - 1),
    "limit": st.integers(0, 2**63 - 1),
    "max_fee": st.integers(100, 2**32 - 1),
    "gas_limit": st.integers(21_000, 2**24),
    "max_fee_per_gas": st.integers(2 * 10**9, 2**96 - 1),
    "max_priority_fee_per_gas": st.integers(0, 2 * 10**9),
    "path": st.lists(st.sampled_from(["native", CREDIT, LONG]), max_size=5).map(",".join),
    "signer_weight": st.integers(0, 255).map(str),
    "master_weight": st.one_of(st.just(""), st.integers(1, 255).map(str)),
    "balance_id": st.binary(min_size=32, max_size=32).map(bytes.hex),
    "inner": st.binary(min_size=32, max_size=32).map(bytes.hex),
    "text": st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40).map(
        write_text
    ),
}


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_every_value_survives_the_round_trip_and_names_one_digest(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    intent = make(kind)
    drawn = {name: data.draw(_VALUES[name]) for name in KINDS[kind].parsers if name in _VALUES}
    if kind == "evm_erc20_approve":
        drawn["amount"] %= 2**96 - 1
    changed = replace(intent, **drawn)
    encoded = canonical.encode(changed)
    assert canonical.decode(encoded) == changed
    assert (canonical.digest(encoded) == canonical.digest(canonical.encode(intent))) == (changed == intent)


# --- refusals -------------------------------------------------------------------------------------------------------------

_LONG_PATH = ",".join(["native"] * 6)
REFUSALS: list[tuple[str, dict[str, Any], str, str]] = [
    ("stellar_channel_payment", {"channel": RECEIVER}, "bad_address", "channel"),
    ("stellar_channel_payment", {"channel": ""}, "bad_address", "channel"),
    ("stellar_contract_payment", {"destination": CUSTOMER}, "bad_address", "destination"),
    ("stellar_payment", {"destination": CONTRACT}, "bad_address", "destination"),
    ("stellar_create_account", {"destination": CONTRACT}, "bad_address", "destination"),
    ("stellar_create_account", {"amount": 0}, "out_of_range", "amount"),
    (
        "stellar_create_claimable_balance",
        {"destination": MuxedAccount(CUSTOMER, 1).account_muxed},
        "bad_address",
        "destination",
    ),
    ("stellar_create_claimable_balance", {"memo_type": "none"}, "bad_memo", "memo"),
    ("stellar_path_payment_strict_send", {"dest_min": 0}, "out_of_range", "dest_min"),
    ("stellar_path_payment_strict_send", {"path": _LONG_PATH}, "out_of_range", "path"),
    ("stellar_path_payment_strict_send", {"path": "native,"}, "bad_asset", "path"),
    ("stellar_path_payment_strict_send", {"path": ","}, "bad_asset", "path"),
    ("stellar_path_payment_strict_send", {"memo_type": "id", "memo": "1"}, "memo_with_muxed", "memo_type"),
    ("stellar_path_payment_strict_receive", {"memo": "09"}, "bad_memo", "memo"),
    ("stellar_path_payment_strict_receive", {"send_max": 2**63}, "out_of_range", "send_max"),
    ("stellar_account_merge", {"destination_vault": ""}, "bad_name", "destination_vault"),
    ("stellar_account_merge", {"destination": MuxedAccount(CUSTOMER, 1).account_muxed}, "bad_address", "destination"),
    ("stellar_set_options", {"signer_weight": ""}, "out_of_range", "signer_weight"),
    ("stellar_set_options", {"signer_key": ""}, "out_of_range", "signer_weight"),
    ("stellar_set_options", {"signer_weight": "256"}, "out_of_range", "signer_weight"),
    ("stellar_set_options", {"signer_weight": "01"}, "not_minimal", "signer_weight"),
    ("stellar_set_options", {"signer_key": "", "signer_weight": "", "master_weight": "0"}, "lock_out", "master_weight"),
    ("stellar_set_options", {"signer_weight": "0", "master_weight": "0"}, "lock_out", "master_weight"),
    ("stellar_set_options", {"med_threshold": "3", "high_threshold": "2"}, "lock_out", "high_threshold"),
    ("stellar_set_options", dict.fromkeys(SAMPLES["stellar_set_options"], ""), "no_effect", ""),
    ("stellar_claim_claimable_balance", {"balance_id": "00000000" + "cd" * 32}, "bad_hex", "balance_id"),
    ("stellar_fee_bump", {"inner": "AB" * 32}, "bad_hex", "inner"),
    ("evm_transfer", {"destination": "0x" + "00" * 20}, "bad_address", "destination"),
    ("evm_transfer", {"destination": PRECOMPILE}, "bad_address", "destination"),
    ("evm_transfer", {"destination": "0x" + "00" * 18 + "ffff"}, "bad_address", "destination"),
    ("evm_erc20_transfer", {"token": PRECOMPILE}, "bad_address", "token"),
    ("evm_erc20_transfer", {"destination": TOKEN}, "self_transfer", "token"),
    ("evm_erc20_transfer", {"destination": TOKEN.lower()}, "self_transfer", "token"),
    ("evm_erc20_sweep", {"destination": TOKEN}, "self_transfer", "token"),
    ("evm_sweep", {"amount": 0}, "out_of_range", "amount"),
    ("evm_erc20_approve", {"spender": PRECOMPILE}, "bad_address", "spender"),
    ("evm_erc20_approve", {"spender": TOKEN}, "self_transfer", "token"),
    ("evm_erc20_approve", {"amount": 2**96 - 1}, "out_of_range", "amount"),
    ("evm_erc20_approve", {"amount": 2**256 - 1}, "out_of_range", "amount"),
    ("evm_replace", {"replaced_kind": "evm_cancel"}, "unknown_kind", "replaced_kind"),
    ("evm_replace", {"replaced_kind": "evm_replace"}, "unknown_kind", "replaced_kind"),
    ("evm_replace", {"asset": "0x" + "00" * 20}, "bad_address", "asset"),
    ("evm_replace", {"replaces": ""}, "bad_hex", "replaces"),
    ("evm_cancel", {"cancels": "0x" + "ab" * 31}, "bad_hex", "cancels"),
    ("evm_cancel", {"max_priority_fee_per_gas": 2**95}, "out_of_range", "max_priority_fee_per_gas"),
    ("evm_cancel", {"chain_id": 1}, "chain_mismatch", "chain_id"),
    ("stellar_message", {"text": ""}, "bad_text", "text"),
    ("stellar_message", {"text": "a\\tb"}, "bad_text", "text"),
    ("stellar_message", {"text": "a\\"}, "bad_text", "text"),
    ("evm_message", {"text": "x" * (TEXT_MAX + 1)}, "bad_text", "text"),
    ("evm_message", {"text": "\\n" * (TEXT_MAX + 1)}, "bad_text", "text"),
    ("evm_message", {"text": "a\nb"}, "not_canonical", ""),
    ("evm_message", {"chain": "stellar:devnet"}, "bad_chain", "chain"),
    ("stellar_message", {"source": RECEIVER}, "bad_address", "source"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "changes", "code", "field"), REFUSALS)
def test_what_no_kind_accepts(kind: str, changes: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(MalformedIntent) as caught:
        canonical.encode(make(kind, **changes))
    assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("stellar_payment", "destination"),
        ("stellar_channel_payment", "destination"),
        ("stellar_channel_payment", "channel"),
        ("stellar_create_account", "destination"),
        ("stellar_create_claimable_balance", "destination"),
        ("stellar_account_merge", "destination"),
        ("stellar_set_options", "signer_key"),
        ("evm_transfer", "destination"),
        ("evm_sweep", "destination"),
        ("evm_erc20_sweep", "destination"),
        ("evm_erc20_approve", "spender"),
    ],
)
def test_an_account_deals_with_others_only(kind: str, field: str) -> None:
    intent = make(kind)
    with pytest.raises(MalformedIntent, match="self_transfer"):
        canonical.encode(replace(intent, **{field: intent.source}))


def test_an_account_pays_itself_only_to_convert() -> None:
    intent = make("stellar_path_payment_strict_receive")
    assert canonical.encode(replace(intent, destination=intent.source))
    muxed = {"destination": MuxedAccount(intent.source, 1).account_muxed, "memo_type": "none", "memo": ""}
    assert canonical.encode(replace(intent, **muxed))
    with pytest.raises(MalformedIntent, match="self_transfer"):
        canonical.encode(replace(intent, **muxed, dest_asset=CREDIT))


def test_the_issuer_of_an_asset_pays_no_contract_with_it() -> None:
    intent = make("stellar_contract_payment")
    with pytest.raises(MalformedIntent, match="self_transfer"):
        canonical.encode(replace(intent, asset=f"USDC:{intent.source}"))


# --- texts of messages ----------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.text(st.one_of(st.characters(min_codepoint=0x20, max_codepoint=0x7E), st.just("\n")), max_size=64))
def test_a_text_has_one_written_form(text: str) -> None:
    written = write_text(text)
    assert read_text(written) == text
    assert write_text(read_text(written)) == written
    assert "\n" not in written


def test_a_message_begins_with_the_domain_line_whatever_the_text() -> None:
    message = make("evm_message", text="Proof of control of 0x00\\n\\\\n")
    assert isinstance(message, EvmMessage)
    assert message_bytes(message) == (
        f"Proof of control of {message.source}\nProof of control of 0x00\n\\n".encode()
    )
    assert DOMAIN_LINE.startswith("Proof of control of ")


def test_the_longest_text_fits() -> None:
    assert canonical.encode(make("stellar_message", text="\\\\" * TEXT_MAX))
