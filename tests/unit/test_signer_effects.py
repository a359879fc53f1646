"""What rules see of every kind: asset, destination, amount, what velocity counts, the most that it may cost."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from signer.effects import (
    amount_of,
    asset_of,
    destination_of,
    fee_cap_of,
    moved_by,
    named_by,
    needs_listed_destination,
    needs_own_rule,
    own_vault_of,
)
from signer.protocol import canonical
from signer.protocol.intent import Intent
from signer.protocol.messages import Explain
from tests.fakes.signer_desk import Desk, make_key
from tests.fakes.signer_hsm import START, FakeToken
from tests.fakes.signer_kinds import CONTRACT, CREDIT, LONG, OTHER, SAMPLES, curve_of_kind, make_kind
from tests.fakes.signer_people import (
    CUSTOMER,
    ISSUER,
    RECEIVER,
    TOKEN,
    approve,
    chain_of_kind,
    key_rules,
    key_view,
    make_rule,
)

HSM = FakeToken()
FEE, GAS = 1000, 60_000 * 30 * 10**9
SELF = "self"
MUXED = str(SAMPLES["stellar_path_payment_strict_send"]["destination"])
ALL = 2**63 - 1


class Effect(NamedTuple):
    """One row. `moved` is what velocity counts; "self" is the source."""

    asset: str
    destination: str
    amount: int
    moved: int
    fee_cap: int


EFFECTS = {
    "stellar_payment": Effect("native", CUSTOMER, 12_345_678, 12_345_678, FEE),
    "stellar_channel_payment": Effect(CREDIT, CUSTOMER, 7, 7, FEE),
    "stellar_contract_payment": Effect(CREDIT, CONTRACT, ALL, ALL, FEE),
    "stellar_create_account": Effect("native", CUSTOMER, 10**7, 10**7, FEE),
    "stellar_create_claimable_balance": Effect(CREDIT, CUSTOMER, 25_000_000, 25_000_000, FEE),
    "stellar_path_payment_strict_send": Effect("native", MUXED, 500, 500, FEE),
    "stellar_path_payment_strict_receive": Effect(CREDIT, CUSTOMER, 500, 500, FEE),
    "stellar_change_trust": Effect(LONG, ISSUER, 5 * 10**7, 0, FEE),
    "stellar_anchor": Effect("native", SELF, 0, 0, FEE),
    "stellar_account_merge": Effect("native", CUSTOMER, ALL, 0, FEE),
    "stellar_set_options": Effect("native", CUSTOMER, 0, 0, FEE),
    "stellar_claim_claimable_balance": Effect("native", SELF, 0, 0, FEE),
    "stellar_memo_required": Effect("native", SELF, 0, 0, FEE),
    "stellar_fee_bump": Effect("native", SELF, 0, 0, FEE),
    "evm_transfer": Effect("native", RECEIVER, 10**18, 10**18, GAS),
    "evm_erc20_transfer": Effect(TOKEN, RECEIVER, 123_456, 123_456, GAS),
    "evm_sweep": Effect("native", OTHER, 10**17, 10**17, GAS),
    "evm_erc20_sweep": Effect(TOKEN, OTHER, 99, 99, GAS),
    "evm_erc20_approve": Effect(TOKEN, RECEIVER, 2**96 - 2, 2**96 - 2, GAS),
    "evm_replace": Effect("native", RECEIVER, 10**18, 0, GAS),
    "evm_cancel": Effect("native", SELF, 0, 0, GAS),
    "evm_fill": Effect("native", SELF, 0, 0, GAS),
    "stellar_message": Effect("none", SELF, 0, 0, 0),
    "evm_message": Effect("none", SELF, 0, 0, 0),
}
OWN_RULE = {
    "stellar_account_merge",
    "stellar_set_options",
    "stellar_create_claimable_balance",
    "evm_erc20_approve",
    "stellar_message",
    "evm_message",
}
LISTED = {"stellar_set_options", "evm_erc20_approve"}
OWN_VAULT = {"stellar_account_merge", "evm_sweep", "evm_erc20_sweep"}
NAMING = {"stellar_fee_bump", "evm_replace", "evm_cancel"}


def make(kind: str, **changes: Any) -> Any:
    return make_kind(kind, key_view(HSM, curve_of_kind(kind)), START, **changes)


def test_the_table_has_a_row_for_every_kind() -> None:
    assert set(EFFECTS) == set(canonical.KINDS)


@pytest.mark.parametrize("kind", canonical.KINDS)
def test_effects_are_those_of_the_table(kind: str) -> None:
    intent, row = make(kind), EFFECTS[kind]
    destination = intent.source if row.destination == SELF else row.destination
    seen = Effect(
        asset_of(intent), destination_of(intent), amount_of(intent), moved_by(intent), fee_cap_of(intent)
    )
    assert seen == row._replace(destination=destination)
    assert own_vault_of(intent) == ("treasury" if kind in OWN_VAULT else "")
    assert needs_own_rule(intent) == (kind in OWN_RULE)
    assert needs_listed_destination(intent) == (kind in LISTED)
    assert named_by(intent).hex() == ("ab" * 32 if kind in NAMING else "")


def test_taking_power_back_needs_no_list() -> None:
    assert not needs_listed_destination(make("evm_erc20_approve", amount=0))
    assert not needs_listed_destination(make("stellar_set_options", signer_weight="0"))
    alone = make("stellar_set_options", signer_key="", signer_weight="", master_weight="1")
    assert not needs_listed_destination(alone)
    assert destination_of(alone) == alone.source


# --- rules about them -----------------------------------------------------------------------------------------------------


def rule(kind: str, *destinations: str, **changes: object) -> dict[str, object]:
    """A rule for the kind on its own chain, or for any kind on any chain."""
    return make_rule(
        "one",
        **{
            "chain": "*" if kind == "*" else chain_of_kind(kind), "kind": kind,
            "destinations": list(destinations or ("*",)), "amount_max": str(2**256 - 1),
            "fee_max": str(2**256 - 1), **changes,
        },
    )  # fmt: skip


def verdict(signer: Desk, kind: str, **changes: Any) -> tuple[str, str]:
    decider = signer.start()
    key = make_key(decider, curve_of_kind(kind))
    make_key(decider, curve_of_kind(kind), vault="treasury")
    intent: Intent = make_kind(kind, key, START, **changes)
    if own_vault_of(intent):
        other = make_key(decider, curve_of_kind(kind), vault="treasury")
        intent = replace(intent, destination=other.address)  # type: ignore[call-arg]  # only kinds that have one
    data = canonical.encode(intent)
    told = decider.explain(Explain(intent=data, approvals=approve(data, "alice", "bob")))
    return told.verdict, told.code


@pytest.mark.parametrize("kind", sorted(set(canonical.KINDS) - NAMING - {"stellar_channel_payment"}))
def test_a_rule_for_any_kind_stops_at_what_no_amount_bounds(
    make_signer: Callable[..., Desk], kind: str
) -> None:
    named = make_signer(
        allow=[rule(kind, EFFECTS[kind].destination if kind in LISTED else "*"), *key_rules()]
    )
    assert verdict(named, kind) == ("allow", "ok")
    anything = make_signer(allow=[rule("*"), *key_rules()])
    assert verdict(anything, kind) == (("deny", "no_rule") if kind in OWN_RULE else ("allow", "ok"))


@pytest.mark.parametrize("kind", sorted(LISTED))
def test_power_goes_only_to_who_is_listed(make_signer: Callable[..., Desk], kind: str) -> None:
    assert verdict(make_signer(allow=[rule(kind), *key_rules()]), kind) == ("deny", "no_rule")
    assert verdict(make_signer(allow=[rule(kind, TOKEN), *key_rules()]), kind) == ("deny", "no_rule")


@pytest.mark.parametrize("kind", sorted(canonical.KINDS))
def test_a_deny_rule_for_any_kind_reaches_all(make_signer: Callable[..., Desk], kind: str) -> None:
    deny = {
        name: value for name, value in rule("*", chain=chain_of_kind(kind)).items()
        if name in ("id", "org", "vault", "key", "chain", "kind", "asset", "destinations")
    }  # fmt: skip
    signer = make_signer(deny=[deny], allow=[rule(kind) | {"id": "two"}, *key_rules()])
    if kind in NAMING | {"stellar_channel_payment"}:
        assert verdict(signer, kind)[1] in ("unknown_intent", "unknown_channel")
    else:
        assert verdict(signer, kind) == ("deny", "denied_by_rule")


def test_a_vault_may_be_listed_and_another_is_not(make_signer: Callable[..., Desk]) -> None:
    assert verdict(make_signer(allow=[rule("evm_sweep", "vault:treasury"), *key_rules()]), "evm_sweep") == (
        "allow",
        "ok",
    )
    assert verdict(make_signer(allow=[rule("evm_sweep", "vault:hot"), *key_rules()]), "evm_sweep") == (
        "deny",
        "no_rule",
    )


def test_only_a_cap_that_stops_nothing_holds_a_merge(make_signer: Callable[..., Desk]) -> None:
    kind = "stellar_account_merge"
    assert (
        verdict(make_signer(allow=[rule(kind, amount_max=str(ALL - 1)), *key_rules()]), kind)[1]
        == "over_amount_cap"
    )
    assert verdict(make_signer(allow=[rule(kind, amount_max=str(ALL)), *key_rules()]), kind) == (
        "allow",
        "ok",
    )
