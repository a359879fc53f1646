"""Webhooks' pure rules: who is sent what, when it is tried again, where we send at all, and the published schemas."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidTag
from pydantic import ValidationError
from standardwebhooks.webhooks import Webhook

from api.export import documents
from custody.events.catalog import EVENTS, TOLD_TO_CUSTOMERS
from custody.events.envelope import build_body
from custody.events.model import WALLETS
from custody.events.schemas import MORE, OF_OBJECT, build_document, fields_of
from custody.kernel.errors import IllegalTransition
from custody.kernel.ids import TenantId
from custody.settings import Settings
from custody.webhook_settings import WebhookSettings
from custody.webhooks.errors import RefusedAddress, RefusedUrl, SecretUnreadable
from custody.webhooks.guard import Rules, check_addresses, check_url, is_allowed
from custody.webhooks.message import build_headers
from custody.webhooks.model import (
    CIRCUIT_FAILURES,
    SCHEDULE_S,
    Answer,
    Outcome,
    circuit_pause,
    retry_pause,
    wants,
)
from custody.webhooks.sealed import SecretBox, new_secret, show_secret
from custody.webhooks.transitions import WEBHOOK_DELIVERIES, WEBHOOK_ENDPOINTS
from tests.fakes.withdrawal_world import make_settings

EXPECTED = {
    ("waiting", "claim"): "sending",
    ("waiting", "abandon"): "abandoned",
    ("sending", "deliver"): "delivered",
    ("sending", "fail"): "waiting",
    ("sending", "lose"): "waiting",
    ("sending", "exhaust"): "exhausted",
    ("sending", "abandon"): "abandoned",
    ("delivered", "replay"): "waiting",
    ("exhausted", "replay"): "waiting",
    ("abandoned", "replay"): "waiting",
}
ENDPOINT_MOVES = {
    ("active", "disable"): "disabled",
    ("disabled", "enable"): "active",
    ("active", "delete"): "deleted",
    ("disabled", "delete"): "deleted",
}
KEYS = [bytes([n]) * 32 for n in (1, 2)]


@pytest.mark.parametrize(
    ("table", "expected"), [(WEBHOOK_DELIVERIES, EXPECTED), (WEBHOOK_ENDPOINTS, ENDPOINT_MOVES)]
)
def test_endpoints_and_deliveries_make_the_listed_moves_and_no_other(table, expected) -> None:
    for state in table.states:
        for event in table.events:
            if (state, event) in expected:
                assert table.target(state, event) == expected[state, event]
            else:
                with pytest.raises(IllegalTransition):
                    table.target(state, event)


def test_the_schedule_is_the_standards_and_its_jitter_only_adds() -> None:
    assert sum(SCHEDULE_S) == timedelta(hours=75, minutes=35, seconds=5).total_seconds()
    assert [retry_pause(tries, 0) for tries in (1, 2, 9)] == [
        timedelta(seconds=5), timedelta(minutes=5), timedelta(hours=24),
    ]  # fmt: skip
    assert retry_pause(2, 10) == timedelta(seconds=330)
    assert retry_pause(10, 0) is None
    assert retry_pause(1, 0, 60) == timedelta(seconds=60)
    assert retry_pause(1, 0, 10**8) == timedelta(hours=1)
    assert retry_pause(9, 0, 60) == timedelta(hours=24)


def test_the_circuit_opens_after_failures_in_a_row_and_stays_longer_each_time() -> None:
    assert circuit_pause(CIRCUIT_FAILURES - 1) is None
    pauses = [circuit_pause(CIRCUIT_FAILURES + n) for n in range(7)]
    assert [pause.total_seconds() for pause in pauses if pause] == [15, 30, 60, 120, 240, 300, 300]
    assert circuit_pause(10**6) == timedelta(seconds=300)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "delivered"), (204, "delivered"), (299, "delivered"), (301, "failed"), (410, "gone"), (500, "failed"),
        (None, "failed"),
    ],
)  # fmt: skip
def test_only_2xx_is_success_and_410_ends_it(status: int | None, outcome: str) -> None:
    assert Answer(status=status, error="", elapsed_ms=1).outcome is Outcome(outcome)


def test_filters_name_types_objects_or_all() -> None:
    assert wants(["deposit.credited"], "deposit.credited")
    assert wants(["deposit.*"], "deposit.credited")
    assert wants(["*"], "deposit.credited")
    assert not wants(["deposit.observed", "withdrawal.*"], "deposit.credited")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://receiver.example/", "scheme"),
        ("ftp://receiver.example/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("receiver.example/hook", "scheme"),
        ("https://user:pass@receiver.example/", "credentials"),
        ("https://@receiver.example/", "credentials"),
        ("https://receiver.example/#frag", "fragment"),
        ("https://receiver.example/#", "fragment"),
        ("https://", "host"),
        ("https:///hook", "host"),
        ("https://.example/", "host"),
        ("https://receiver.example./", "host"),
        ("https://rece_iver.example/", "host"),
        ("https://receiver.example:0/", "malformed"),
        ("https://receiver.example:99999/", "malformed"),
        ("https://receiver.example\\@inside/", "malformed"),
        ("https://receiver.example/ hook", "malformed"),
        ("https://receiver.example/\nhost:x", "malformed"),
        ("https://bücher.example/", "malformed"),
        ("https://[::1/", "malformed"),
        ("https://127.0.0.1/", "host"),
        ("https://[::1]/", "host"),
        ("https://169.254.169.254/latest/meta-data", "host"),
        ("https://[::ffff:8.8.8.8]/", "host"),
        ("https://" + "a" * 1100 + ".example/", "malformed"),
    ],
)
def test_a_url_that_we_do_not_send_to_is_refused_by_reason(url: str, reason: str) -> None:
    with pytest.raises(RefusedUrl) as refused:
        check_url(url, Rules())
    assert refused.value.values == {"reason": reason}


def test_public_urls_pass_and_http_only_where_it_is_allowed() -> None:
    assert check_url("https://receiver.example:8443/hook?a=1", Rules()).hostname == "receiver.example"
    assert check_url("https://8.8.8.8/", Rules()).hostname == "8.8.8.8"
    assert check_url("http://receiver.example/", Rules(http=True)).scheme == "http"


REFUSED = (
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.1", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1",
    "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::8.8.8.8", "64:ff9b::8.8.8.8",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%1",
    "fec0::1", "ff02::1",
)  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_special_addresses_are_refused_and_spoil_the_whole_answer(address: str) -> None:
    assert not is_allowed(ip_address(address), Rules())
    with pytest.raises(RefusedAddress):
        check_addresses(["8.8.8.8", address], Rules())


def test_public_addresses_pass_and_opened_networks_open_nothing_else() -> None:
    assert [str(a) for a in check_addresses(["8.8.8.8", "2606:4700::1", "8.8.8.8"], Rules())] == [
        "8.8.8.8", "2606:4700::1",
    ]  # fmt: skip
    opened = Rules(networks=(ip_network("10.20.0.0/16"),))
    assert is_allowed(ip_address("10.20.3.4"), opened)
    assert not is_allowed(ip_address("10.21.3.4"), opened)
    assert not is_allowed(ip_address("::ffff:10.20.3.4"), opened)
    with pytest.raises(RefusedAddress):
        check_addresses([], Rules())


def test_secrets_open_only_in_the_row_that_they_were_sealed_for() -> None:
    tenant, endpoint, secret_id, secret = TenantId(1), UUID(int=2), UUID(int=3), new_secret()
    old = SecretBox(KEYS[:1])
    sealed = old.seal(tenant, endpoint, secret_id, secret)
    assert secret not in sealed
    assert SecretBox([KEYS[1], KEYS[0]]).open(tenant, endpoint, secret_id, sealed) == secret
    for moved in (
        (TenantId(2), endpoint, secret_id),
        (tenant, UUID(int=9), secret_id),
        (tenant, endpoint, UUID(int=9)),
    ):
        with pytest.raises(SecretUnreadable):
            old.open(*moved, sealed)
    with pytest.raises(SecretUnreadable):
        SecretBox(KEYS[1:]).open(tenant, endpoint, secret_id, sealed)
    assert issubclass(InvalidTag, Exception)


def test_a_message_verifies_with_either_secret_while_both_sign() -> None:
    now = datetime.now(UTC)
    body = build_body(
        event_id=UUID(int=7), event_type="deposit.credited", position=3, object_id=UUID(int=8),
        occurred_at=now, data={"b": 1, "a": "ü"},
    )  # fmt: skip
    secrets = [new_secret(), new_secret()]
    headers = build_headers(UUID(int=7), body, secrets, now)
    assert headers["webhook-id"] == "evt_" + "0" * 31 + "7"
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in secrets:
        assert Webhook(show_secret(secret)).verify(body, headers)["data"] == {"a": "ü", "b": 1}


def test_production_sends_neither_in_the_clear_nor_to_this_machine() -> None:
    key = show_secret(KEYS[0])[len("whsec_") :]
    assert not WebhookSettings(secret_keys=(key,), allowed_networks=("10.0.0.0/8",)).development_only
    for loose in (
        {"allow_http": True},
        {"allowed_networks": ("127.0.0.0/8",)},
        {"allowed_networks": ("0.0.0.0/0",)},
        {"allowed_networks": ("::1/128",)},
        {"allowed_networks": ("169.254.0.0/16",)},
    ):
        assert WebhookSettings(secret_keys=(key,), **loose).development_only
    for keys in ((), ("short",), ("!" * 44,)):
        with pytest.raises(ValidationError):
            WebhookSettings(secret_keys=keys)


def test_every_event_has_a_schema_and_every_schema_an_event() -> None:
    assert {name.partition(".")[0] for name in EVENTS} == set(OF_OBJECT)
    assert set(MORE) <= set(EVENTS)
    document = build_document()
    assert list(document["$defs"]) == list(EVENTS)
    assert any(path.name == "events.json" for path in documents())


def test_customers_are_told_of_events_that_name_wallets_and_as_events_that_there_are() -> None:
    assert {*TOLD_TO_CUSTOMERS, *TOLD_TO_CUSTOMERS.values()} <= set(EVENTS)
    assert [name for name in TOLD_TO_CUSTOMERS if not set(WALLETS) & set(fields_of(name))] == []
    for name in ("withdrawal.decided", "case.opened", "adjustment.proposed", "payout.contradicted"):
        assert name not in TOLD_TO_CUSTOMERS, "what people and rails do behind the scenes"


def test_no_field_of_an_event_sounds_like_a_secret() -> None:
    secret = re.compile(r"secret|password|token|key|seed|mnemonic|private|signature|tenant", re.IGNORECASE)
    assert [(name, each) for name in EVENTS for each in fields_of(name) if secret.search(each)] == []


def test_an_installation_in_production_refuses_what_only_development_may() -> None:
    key = show_secret(KEYS[0])[len("whsec_") :]
    base = make_settings().model_dump() | {"environment": "production", "chains": (), "rails": {}}
    assert Settings.model_validate(base | {"webhooks": {"secret_keys": (key,)}}).webhooks is not None
    for loose in ({"allow_http": True}, {"allowed_networks": ("127.0.0.1/32",)}):
        with pytest.raises(ValidationError, match="not for production: webhooks") as refused:
            Settings.model_validate(base | {"webhooks": {"secret_keys": (key,), **loose}})
        assert key not in str(refused.value)
