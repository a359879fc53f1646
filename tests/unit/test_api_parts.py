"""The API's small parts by themselves: strict JSON, cursors, problems, log redaction."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from api.errors import (
    DuplicateKey,
    FieldError,
    MalformedBody,
    MalformedCursor,
    at,
    problem_of,
    status_of,
)
from api.paging import (
    next_cursor,
    page_of,
    parse_id_cursor,
    parse_number_cursor,
    parse_pair_cursor,
    show_cursor,
    show_pair_cursor,
    signing_cursors,
)
from api.strict_json import canonical, fingerprint, parse
from custody.idempotency.errors import KeyReused
from custody.kernel.errors import (
    Conflict,
    CustodyError,
    Forbidden,
    IllegalTransition,
    InvalidInput,
    InvariantViolated,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
)
from custody.kernel.jsontext import nests_too_deeply
from custody.kernel.money import MalformedAmount, parse_positive
from custody.logs import strike_out_secrets

ROOT = Path(__file__).parent.parent.parent
SOME_ID = UUID("0192f0a8-1c7a-7d10-b5b0-c8e6f7a1d2c3")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput(), 422),
        (Unauthenticated(), 401),
        (Forbidden(), 403),
        (NotFound(), 404),
        (Conflict(), 409),
        (IllegalTransition(), 409),
        (Refused(), 422),
        (Unavailable(), 503),
        (InvariantViolated("x"), 500),
        (CustodyError(), 500),
        (MalformedBody(), 400),
        (KeyReused(), 422),
    ],
)
def test_each_kind_of_error_has_its_status(error: CustodyError, status: int) -> None:
    assert status_of(error) == status


def test_a_problem_names_its_type_values_and_trace() -> None:
    problem = problem_of(NotFound(wallet="wal_1"), "t-1")
    assert problem.type == "/docs/problems/not_found"
    assert problem.trace_id == "t-1"
    assert "wallet=wal_1" in problem.detail


def test_a_broken_invariant_shows_none_of_its_values() -> None:
    problem = problem_of(InvariantViolated("the vault's rows were lost", secret_key="k-1"), "t-1")
    assert "k-1" not in problem.model_dump_json()
    assert "vault" not in problem.model_dump_json()


def test_a_parser_error_gets_the_field_it_came_from() -> None:
    with pytest.raises(FieldError) as caught, at("/amount"):
        parse_positive("1.5")
    assert caught.value.pointer == "/amount"
    assert isinstance(caught.value.cause, MalformedAmount)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b"[NaN]",
        b"[Infinity]",
        b"[" * 200_000,
        b"9" * 5000,
        b"{} {}",
        b'["\\u0000"]',
        b'{"\\ud800": 1}',
    ],
)
def test_what_is_not_json_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse(raw)


@pytest.mark.parametrize("raw", [b'{"a":1,"a":1}', b'[{"a":{"b":1,"\\u0062":2}}]'])
def test_a_repeated_key_is_refused_at_any_depth_and_in_any_spelling(raw: bytes) -> None:
    with pytest.raises(DuplicateKey):
        parse(raw)


HOSTILE = """
import sys
import eth_account  # raises the recursion limit, as in every process that speaks to an EVM chain
from api.errors import MalformedBody
from api.strict_json import parse
from rails.sandbox import wire

assert sys.getrecursionlimit() > 50_000
for raw in (b"[" * 500_000, b'{"a":' * 200_000, b"[" * 400_000 + b"]" * 400_000, b'["' + b"[" * 90 + b'",' + b"[" * 90):
    for read, refusal in ((parse, MalformedBody), (wire.read_object, wire.Unreadable)):
        try:
            read(raw)
        except refusal:
            continue
        raise SystemExit("taken")
assert parse(b'["' + b"{" * 500 + b'"]') == ["{" * 500]
assert parse(b"[" * 64 + b"]" * 64)
"""


def test_nesting_never_ends_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("tail", ['"' * 40_000, "\\" * 40_000, '"' + "\\" * 40_001, '"\\"' * 20_000])
def test_nesting_of_text_that_is_no_json_is_measured_in_one_pass(tail: str) -> None:
    assert nests_too_deeply("[" * 65 + tail)
    assert not nests_too_deeply("[" * 64 + '"' + "[" * 9 + tail)


def test_equal_bodies_have_one_spelling_and_one_fingerprint() -> None:
    one, other = parse(b'{"b": [1, "\\u00e9"], "a": null}'), parse('{"a":null,"b":[1,"é"]}'.encode())
    assert canonical(one) == canonical(other)
    assert fingerprint("POST", "/v1/x", one) == fingerprint("POST", "/v1/x", other)
    assert len({fingerprint(m, p, one) for m in ("POST", "PUT") for p in ("/v1/x", "/v1/y")}) == 4


@pytest.fixture
def signed() -> Iterator[None]:
    with signing_cursors(b"ours"):
        yield


@pytest.mark.usefixtures("signed")
def test_cursors_come_back_as_what_they_were() -> None:
    assert parse_id_cursor("customers", show_cursor("customers", SOME_ID)) == SOME_ID
    assert parse_number_cursor("audit", show_cursor("audit", 42)) == 42
    assert parse_pair_cursor("states", show_pair_cursor("states", SOME_ID, "a/b")) == (SOME_ID, "a/b")
    assert parse_id_cursor("customers", None) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "é",
        base64.urlsafe_b64encode(b"customers:zz").decode(),
        base64.urlsafe_b64encode(b"." * 12 + b"customers:" + SOME_ID.hex.encode()).decode(),
        "====",
        "A" * 300,
    ],
)
@pytest.mark.usefixtures("signed")
def test_a_cursor_of_our_making_only_is_taken(text: str) -> None:
    with pytest.raises(MalformedCursor):
        parse_id_cursor("customers", text)


@pytest.mark.usefixtures("signed")
def test_a_cursor_of_another_list_or_secret_is_refused() -> None:
    with signing_cursors(b"theirs"):
        foreign = show_cursor("customers", SOME_ID)
    for text in (foreign, show_cursor("wallets", SOME_ID)):
        with pytest.raises(MalformedCursor):
            parse_id_cursor("customers", text)


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize("shown", ["-1", "1.5", "9" * 19])
def test_a_number_cursor_is_a_small_natural_number(shown: str) -> None:
    with pytest.raises(MalformedCursor):
        parse_number_cursor("audit", show_cursor("audit", shown))  # type: ignore[arg-type]


def test_a_page_knows_whether_more_follows() -> None:
    whole, cut = page_of([1, 2], 2), page_of([1, 2, 3], 2)
    assert (whole.rows, whole.more) == ((1, 2), False)
    assert (cut.rows, cut.more) == ((1, 2), True)
    assert next_cursor(whole, str) is None
    assert next_cursor(cut, str) == "2"


def test_secrets_are_struck_out_of_logs_whatever_they_are_called() -> None:
    event = {
        "event": "request.answered",
        "Authorization": "Bearer ck_1",
        "api_key": "ck_1",
        "settings": {"callback_secret": "whsec_1", "pin": "1234", "host": "127.0.0.1"},
        "key_id": "ab",
    }
    cleaned = strike_out_secrets(None, "info", event)
    assert "ck_1" not in str(cleaned)
    assert "whsec_1" not in str(cleaned)
    assert "1234" not in str(cleaned)
    assert (cleaned["key_id"], cleaned["settings"]["host"]) == ("ab", "127.0.0.1")
