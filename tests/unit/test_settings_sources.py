"""Mistakes in the settings of sources that would lose money, or hide that it is lost, are refused at the start, by name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from stellar_sdk import Network

from custody.settings import STELLAR_NETWORKS, ChainSettings, LakeSettings, Settings
from ingestion.providers import name_providers

STELLAR: dict[str, Any] = {
    "id": "stellar:devnet",
    "kind": "stellar",
    "rpc_url": "https://one.example/rpc",
    "network_passphrase": "Somewhere",
    "confirmations": 0,
    "max_fee_stroops": 1000,
    "tx_valid_s": 60,
    "tx_valid_ledgers": 10,
}
EVM: dict[str, Any] = {
    "id": "eip155:1",
    "kind": "evm",
    "rpc_url": "https://eth.example",
    "confirmations": 12,
    "chain_id": 1,
    "gas_limit_native": 21000,
    "gas_limit_erc20": 100000,
    "max_fee_per_gas_wei": 1,
    "max_priority_fee_per_gas_wei": 1,
    "tx_valid_s": 60,
}
LAKE = {"url": "s3://bucket/ledgers"}


def whole(*chains: dict[str, Any], environment: str = "production") -> Settings:
    return Settings(
        environment=environment,  # type: ignore[arg-type]  # one of two words
        database={"url": "postgresql://nowhere/none"},  # type: ignore[arg-type]  # validated here
        redis={"url": "redis://127.0.0.1:1/0"},  # type: ignore[arg-type]
        signer={"socket": "/nowhere"},  # type: ignore[arg-type]
        api={"port": 1},  # type: ignore[arg-type]
        chains=chains,  # type: ignore[arg-type]
        intent_valid_s=60,
    )


def test_sources_may_be_said_in_full() -> None:
    chain = ChainSettings(
        **STELLAR,
        other_rpc_urls=("https://two.example",),
        agreement_required=True,
        lake=LakeSettings(**LAKE, region="us-east-2", anonymous=True),
        start_height=60_000_000,
    )
    assert (chain.silence_s, ChainSettings(**EVM).silence_s) == (30, 0)
    assert whole(chain.model_dump(), EVM).chain("stellar:devnet").lake == chain.lake


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"agreement_required": True}, "nobody to agree"),
        ({"other_rpc_urls": ("https://ONE.example/rpc/",)}, "one RPC provider twice"),
        ({"other_rpc_urls": ("https://two.example", "https://two.example")}, "one RPC provider twice"),
        ({"lake": LAKE}, "needs a start_height"),
        ({"lake": {"url": "/var/lake"}, "start_height": 2}, "lake.url"),
        ({"lake": {"url": "http://x/lake"}, "start_height": 2}, "lake.url"),
        ({"lake": {"url": "s3://key:secret@bucket/lake"}, "start_height": 2}, "lake.url"),
        ({"horizon_url": "https://h.example", "lake": LAKE, "start_height": 2}, "horizon_url alone"),
        ({"retention_alarm_percent": 0}, "retention_alarm_percent"),
        ({"provider_lag_max": 0}, "provider_lag_max"),
        ({"silence_after_s": -1}, "silence_after_s"),
    ],
)
def test_sources_that_make_no_sense_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ChainSettings(**(STELLAR | change))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "stellar:pubnet"},
        {"id": "stellar:pubnet", "network_passphrase": Network.TESTNET_NETWORK_PASSPHRASE},
        {"id": "stellar:testnet", "network_passphrase": Network.PUBLIC_NETWORK_PASSPHRASE},
        {"network_passphrase": Network.PUBLIC_NETWORK_PASSPHRASE},
    ],
)
def test_play_money_cannot_pass_for_real_money(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="passphrase of"):
        ChainSettings(**(STELLAR | change))
    with pytest.raises(ValidationError, match="is not eip155:5"):
        ChainSettings(**(EVM | {"chain_id": 5}))


def test_known_networks_are_those_of_the_sdk() -> None:
    assert STELLAR_NETWORKS == {
        "stellar:pubnet": Network.PUBLIC_NETWORK_PASSPHRASE,
        "stellar:testnet": Network.TESTNET_NETWORK_PASSPHRASE,
    }


@pytest.mark.parametrize(
    "second", [STELLAR, STELLAR | {"id": "stellar:again"}], ids=["the same name", "another name"]
)
def test_one_network_cannot_be_credited_under_two_names(second: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="configured twice"):
        whole(STELLAR, second, environment="development")


@pytest.mark.parametrize(
    "change",
    [
        {"rpc_url": "http://one.example/rpc"},
        {"rpc_url": "http://8.8.8.8"},
        {"other_rpc_urls": ("http://two.example",)},
        {"lake": LAKE | {"endpoint": "http://store.example"}, "start_height": 2},
    ],
)
def test_production_reads_nothing_that_can_be_rewritten_on_the_way(change: dict[str, Any]) -> None:
    assert whole(STELLAR | change, environment="development")
    with pytest.raises(ValidationError, match="plain http") as caught:
        whole(STELLAR | change)
    assert "/rpc" not in str(caught.value).split("plain http")[1].split("[")[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1",
        "http://stellar:8000/rpc",
        "http://10.1.2.3",
        "http://node.internal",
        "http://[::1]:1",
    ],
)
def test_production_may_read_from_its_own_network_in_plain_words(url: str) -> None:
    assert whole(STELLAR | {"rpc_url": url})


def test_production_listens_for_silence() -> None:
    for name in ("silence_after_s", "blind_after_s"):
        assert whole(STELLAR | {name: 0}, environment="development")
        with pytest.raises(ValidationError, match=name):
            whole(STELLAR | {name: 0})


def test_production_takes_a_horizon_only_where_somebody_accepted_it() -> None:
    chosen = STELLAR | {"horizon_url": "https://h.example"}
    assert whole(chosen, environment="development")
    assert whole(chosen | {"horizon_accepted": True})
    with pytest.raises(ValidationError, match="horizon_accepted"):
        whole(chosen)


@pytest.mark.parametrize(
    ("kind", "foreign"),
    [
        (EVM, {"lake": LAKE, "start_height": 2}),
        (EVM, {"horizon_url": "https://h.example"}),
        (STELLAR, {"finality_tag": "safe"}),
        (STELLAR, {"ws_url": "wss://one.example"}),
        (STELLAR, {"assets": {"native": {"confirmations": 3}}}),
        (STELLAR, {"l1_fee": True}),
        (STELLAR, {"logs": "sample"}),
    ],
)
def test_what_only_one_kind_has_is_refused_elsewhere(kind: dict[str, Any], foreign: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="none of the other"):
        ChainSettings(**(kind | foreign))


def test_names_of_providers_hold_no_keys() -> None:
    urls = ("https://user:secret@one.example/v1/KEY", "https://one.example/v2", "http://two.example:8000")
    assert name_providers(urls) == ["one.example", "one.example #2", "two.example:8000"]


def test_production_does_not_go_without_both_traces_and_survey() -> None:
    """What a contract pays an account that no block names would never be seen."""
    with pytest.raises(ValidationError, match="survey_questions_per_s = 0 without traces on eip155:1"):
        whole({**EVM, "survey_questions_per_s": 0})
    assert whole({**EVM, "survey_questions_per_s": 0, "inner_value": "debug"})
    assert whole({**EVM, "survey_questions_per_s": 0}, environment="development")
    with pytest.raises(ValidationError, match="none of the other"):
        ChainSettings(**STELLAR, survey_period_s=5)
