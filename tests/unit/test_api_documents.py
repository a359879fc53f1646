"""The committed OpenAPI and SDL documents: fresh, complete, with examples and problems."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from api.export import HERE, stale

OAUTH = "POST /oauth/token"


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((HERE / "openapi.json").read_text("utf-8"))
    return document


def operations(openapi: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]


def test_the_committed_documents_are_what_the_code_says() -> None:
    assert stale() == []


def test_it_is_openapi_3_1(openapi: dict[str, Any]) -> None:
    assert openapi["openapi"].startswith("3.1")


def test_every_operation_has_words_and_an_own_id(openapi: dict[str, Any]) -> None:
    named = [operation["operationId"] for _, operation in operations(openapi)]
    assert len(set(named)) == len(named)
    assert [name for name, operation in operations(openapi) if not operation.get("description")] == []


def test_every_operation_tells_its_problems_as_problem_json(openapi: dict[str, Any]) -> None:
    for name, operation in operations(openapi):
        if name == OAUTH:
            continue  # its refusals are OAuth's: RFC 6749 section 5.2
        refusals = {status: told for status, told in operation["responses"].items() if int(status) >= 400}
        assert {"401", "422", "500"} <= set(refusals), name
        for told in refusals.values():
            response = openapi["components"]["responses"][told["$ref"].rpartition("/")[2]]
            assert "application/problem+json" in response["content"]
            assert len(response["content"]) == 1 or name == "POST /graphql"
            assert response["content"]["application/problem+json"]["example"]["code"]


def test_every_operation_but_the_rails_callback_needs_a_key(openapi: dict[str, Any]) -> None:
    open_to_all = [name for name, operation in operations(openapi) if not operation.get("security")]
    assert open_to_all == [OAUTH, "POST /v1/rails/{rail}/callbacks"]


def test_every_command_needs_an_idempotency_key(openapi: dict[str, Any]) -> None:
    without = [
        name
        for name, operation in operations(openapi)
        if name.startswith("POST")
        and not any(
            each.get("name") == "Idempotency-Key" and each["required"]
            for each in operation.get("parameters", ())
        )
    ]
    assert without == [
        "POST /graphql",
        OAUTH,
        "POST /v1/rails/{rail}/callbacks",
        "POST /v1/step-up",
        "POST /v1/step-up/options",
    ]


def test_request_bodies_are_closed_and_have_examples(openapi: dict[str, Any]) -> None:
    requests = {
        name: schema for name, schema in openapi["components"]["schemas"].items() if name.endswith("In")
    }
    assert requests
    for name, schema in requests.items():
        assert schema["additionalProperties"] is False, name
        told = [field for field in schema["properties"].values() if "examples" in field or "enum" in field]
        assert told or name in {"BatchIn", "GraphQLIn", "PayoutIn"}, name


def test_amounts_are_strings(openapi: dict[str, Any]) -> None:
    for name in ("TransferIn", "WithdrawalIn", "PayoutIn"):
        assert openapi["components"]["schemas"][name]["properties"]["amount"]["type"] == "string"


def test_the_schema_names_what_apps_read() -> None:
    sdl = (HERE / "schema.graphql").read_text("utf-8")
    fields = [
        *("node", "customer", "customers", "wallet", "deposits", "transfers", "withdrawals", "payouts"),
        *("auditEvents", "chains", "statement", "balanceAt", "liabilities", "holdingBreaks"),
    ]
    assert [name for name in fields if name not in fields_of(sdl, "Query")] == []


def fields_of(sdl: str, name: str) -> set[str]:
    """Fields of a type, by their definitions."""
    body = sdl[sdl.index(f"\ntype {name} {{") :]
    return set(re.findall(r"^  (\w+)[:(]", body[: body.index("\n}")], re.MULTILINE))


def test_every_mutation_takes_one_input_with_a_key_and_answers_with_a_status() -> None:
    sdl = (HERE / "schema.graphql").read_text("utf-8")
    body = sdl[sdl.index("\ntype Mutation {") :]
    found = re.findall(r"^  (\w+)\(input: (\w+)!\): (\w+)!$", body[: body.index("\n}")], re.MULTILINE)
    assert {name for name, _, _ in found} == fields_of(sdl, "Mutation")
    for _, taken, given in found:
        assert re.search(rf"^input {taken} {{\n  idempotencyKey: String!$", sdl, re.MULTILINE)
        assert re.search(rf"^type {given} implements Payload {{$", sdl, re.MULTILINE)
