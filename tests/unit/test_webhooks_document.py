"""The receiver in docs/webhooks.md, run as it stands there; and the page's tables against the code."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from custody.events.envelope import build_body
from custody.webhooks.message import build_headers
from custody.webhooks.model import CIRCUIT_FAILURES, ENDPOINTS_MAX, REPLAY_MAX, SCHEDULE_S
from custody.webhooks.sealed import new_secret, show_secret

PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text("utf-8")


@pytest.fixture
def example() -> dict[str, Any]:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/webhooks.md", "exec"), names)
    return names


def signed(secret: bytes, at: datetime) -> tuple[bytes, dict[str, str]]:
    body = build_body(
        event_id=UUID(int=7), event_type="deposit.credited", position=3, object_id=UUID(int=8), occurred_at=at, data={},
    )  # fmt: skip
    return body, build_headers(UUID(int=7), body, [secret], at)


def test_the_documented_receiver_takes_an_event_once_and_refuses_forgeries(
    example: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    secret, now = new_secret(), datetime.now(UTC)
    body, headers = signed(secret, now)
    receive, shown = example["receive"], show_secret(secret)
    assert [receive(body, headers, shown) for _ in range(3)] == [204, 204, 204]
    assert capsys.readouterr().out == f"3 deposit.credited {UUID(int=8)}\n"
    assert receive(body.replace(b"3", b"4"), headers, shown) == 401
    assert receive(body, headers | {"webhook-id": "evt_2"}, shown) == 401
    assert receive(body, headers, show_secret(new_secret())) == 401
    assert receive(body, {}, shown) == 401
    old_body, old_headers = signed(secret, now - timedelta(minutes=6))
    assert receive(old_body, old_headers, shown) == 401


def test_the_page_says_the_figures_of_the_code() -> None:
    assert (len(SCHEDULE_S), CIRCUIT_FAILURES, ENDPOINTS_MAX, REPLAY_MAX) == (10, 5, 50, 5000)
    for said in ("Ten tries", "After five failures", "up to 50 endpoints", "more than 5000 numbers"):
        assert said in PAGE


def test_every_code_that_the_code_raises_is_on_the_page() -> None:
    sources = Path(__file__).parents[2] / "custody" / "webhooks"
    codes = set(re.findall(r'code = "(\w+)"', (sources / "errors.py").read_text("utf-8")))
    codes |= set(re.findall(r'"(\w+_\w+)", None\b', (sources / "sender.py").read_text("utf-8")))
    codes -= {"webhook_secret_unreadable"}
    assert {code for code in codes if f"`{code}`" not in PAGE} == set()
    assert len(codes) > 8
