"""The sandbox bank's words, read strictly."""

from __future__ import annotations

import json

import pytest

from rails.sandbox import wire


@pytest.mark.parametrize("escaped", [r"a\u0000b", r"\ud800", r"x\udc00y"], ids=["nul", "high", "low"])
def test_text_that_no_database_can_hold_is_unreadable(escaped: str) -> None:
    body = wire.read_object(f'{{"remittance": "{escaped}"}}'.encode())
    with pytest.raises(wire.Unreadable):
        wire.text(body, "remittance")


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"null", b"\xff", b'{"a": NaN', b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"],
    ids=["empty", "list", "null", "no utf-8", "cut", "deep", "long number"],
)
def test_what_is_no_object_is_unreadable(raw: bytes) -> None:
    with pytest.raises(wire.Unreadable):
        wire.read_object(raw)


@pytest.mark.parametrize("text", ["1e3", "+1", "01", "-0x1", "1" * 32, " 1", "1\n", "\u0661"])
def test_numbers_are_plain_and_short(text: str) -> None:
    body = wire.read_object(json.dumps({"amount": text}).encode())
    with pytest.raises(wire.Unreadable):
        wire.integer(body, "amount")
