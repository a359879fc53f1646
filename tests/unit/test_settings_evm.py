"""Presets of EVM chains and their finality: what is known need not be said, what is said counts, what cannot be is refused."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from custody.chains.evm.address import checksum
from custody.evm_presets import PRESETS, PresetName
from custody.kernel.assetid import parse_asset_id
from custody.settings import ChainSettings
from ingestion.finality import terms_of
from ingestion.reorg import FinalityRule
from tests.unit.test_settings_sources import EVM, whole

USDC = "erc20:0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
CHOSEN: dict[str, Any] = {
    name: EVM[name]
    for name in (
        *("rpc_url", "gas_limit_native", "gas_limit_erc20", "max_fee_per_gas_wei"),
        *("max_priority_fee_per_gas_wei", "tx_valid_s"),
    )
}


def made(preset: str = "ethereum", **said: Any) -> ChainSettings:
    return ChainSettings(**CHOSEN, preset=preset, **said)


@pytest.mark.parametrize("name", get_args(PresetName))
def test_a_preset_and_a_node_are_enough_for_production(name: str) -> None:
    chain = made(name)
    assert chain.id == f"eip155:{chain.chain_id}"
    assert (chain.kind, chain.finality_tag, chain.is_hasty) == ("evm", "finalized", False)
    assert chain.silence_s > 0
    for contract in chain.wrapped_native:
        assert contract == checksum(contract), "written with its checksum, so that a slip of the pen shows"
    assert whole({**CHOSEN, "preset": name}).chains == (chain,)
    assert ChainSettings(**chain.model_dump()) == chain


def test_presets_are_of_different_chains_and_know_their_own_trouble() -> None:
    assert len({each.chain_id for each in PRESETS.values()}) == len(get_args(PresetName))
    assert {name for name, each in PRESETS.items() if each.unprovable_blocks == "tell"} == {
        "arbitrum",
        "polygon",
        "avalanche",
    }
    assert {name for name, each in PRESETS.items() if each.l1_fee} == {"base", "optimism"}


def test_whatever_is_said_counts_more_than_the_preset() -> None:
    said = {
        "finality_tag": "safe",
        "confirmations": 3,
        "wrapped_native": [],
        "poll_interval_s": 9.0,
        "silence_after_s": 7,
        "provider_lag_max": 1,
        "inner_value": "debug",
        "unprovable_blocks": "refuse",
        "l1_fee": True,
    }
    chain = made("arbitrum", **said)
    assert {name: getattr(chain, name) for name in said} == said | {"wrapped_native": frozenset()}


def test_another_network_of_the_same_family_names_its_own_contracts() -> None:
    sepolia = {"id": "eip155:84532", "chain_id": 84532}
    with pytest.raises(ValidationError, match="say wrapped_native of 84532"):
        made("base", **sepolia)
    assert made("base", **sepolia, wrapped_native=["0x4200000000000000000000000000000000000006"]).l1_fee
    with pytest.raises(ValidationError, match="is not eip155:8453"):
        made("base", id="eip155:84532")


def test_any_chain_may_be_said_without_a_preset() -> None:
    chain = ChainSettings(**(EVM | {"id": "eip155:100", "chain_id": 100, "confirmations": 20}))
    assert (chain.preset, chain.finality_tag, chain.silence_s) == ("", "", 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"preset": "dogechain"}, "preset"),
        ({"finality_tag": "latest"}, "finality_tag"),
        ({"agreement_required": True}, "nobody to agree"),
        ({"assets": {"native": {"agreement_from": 1}}}, "nobody to agree"),
        (
            {"agreement_required": True, "other_rpc_urls": ["https://b.example"], "agreement_providers": 3},
            "nobody",
        ),
        ({"agreement_providers": 1}, "agreement_providers"),
        ({"other_rpc_urls": ["https://ETH.example/"]}, "one RPC provider twice"),
        ({"ws_url": "https://eth.example"}, "ws_url"),
        ({"assets": {"erc20:0x12": {"confirmations": 1}}}, "assets"),
        ({"assets": {USDC: {}}}, "says nothing of"),
        ({"assets": {USDC: {"confirmations": 11}}}, "before the chain's own rule"),
        (
            {"finality_tag": "finalized", "assets": {USDC: {"finality_tag": "safe"}}},
            "before the chain's own rule",
        ),
        ({"assets": {USDC: {"confirmations": 20}, USDC.lower(): {"confirmations": 30}}}, "twice"),
        ({"assets": {USDC: {"agreement_from": -1}}}, "agreement_from"),
        ({"logs_sample_every": 0}, "logs_sample_every"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ChainSettings(**(EVM | change))


def test_production_wants_some_finality_and_no_open_socket() -> None:
    hasty = EVM | {"confirmations": 0}
    assert whole(hasty, environment="development")
    with pytest.raises(ValidationError, match="finality_tag or confirmations"):
        whole(hasty)
    assert whole(hasty | {"finality_tag": "safe"})
    with pytest.raises(ValidationError, match="plain http"):
        whole(EVM | {"ws_url": "ws://eth.example"})


def test_an_assets_rule_adds_to_the_chains() -> None:
    chain = made(
        finality_tag="safe",
        confirmations=5,
        other_rpc_urls=["https://b.example"],
        assets={
            USDC.lower(): {"finality_tag": "finalized", "agreement_from": "100000000000000000000000"},
            "native": {"confirmations": 40},
            "erc20:0x" + "11" * 20: {"agreement_from": 0},
        },
    )
    terms = terms_of(chain)
    usdc, ether = parse_asset_id(f"eip155:1/{USDC}"), parse_asset_id("eip155:1/native")
    assert terms.rule == FinalityRule(confirmations=5, tag="safe")
    assert terms.assets == {
        usdc: FinalityRule(confirmations=5, tag="finalized"),
        ether: FinalityRule(confirmations=40, tag="safe"),
    }
    assert terms.tags == {"safe", "finalized"}
    assert terms.agreement_from[usdc] == 10**23
    assert len(terms.agreement_from) == 2
