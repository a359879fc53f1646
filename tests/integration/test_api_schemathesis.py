"""Schemathesis over the published descriptions: never a 5xx, never an answer that the description does not name.

`make fuzz` does the same for longer. What the requests ask for is mostly unknown to the tenant; test_api_fuzz asks with known
ids.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.specs.openapi import checks

from api.export import HERE
from tests.integration.api_harness import Harness
from tests.integration.api_server import served

EXAMPLES = int(os.environ.get("CUSTODY_FUZZ_EXAMPLES", "2"))
"""Requests per operation."""
SEED = int(os.environ.get("CUSTODY_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
AWAY = 503
"""Told where a chain's node or the signer is needed: neither is here."""


@pytest.fixture(scope="module")
async def url(shared_api: Harness) -> AsyncIterator[str]:
    async with served(shared_api.asgi) as address:
        yield address


def surprises(operation: Any, ask: Callable[[Any], str | None]) -> list[str]:
    """What some examples of one operation met that they should not have."""
    found: list[str] = []

    @hypothesis.seed(SEED)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(operation.as_strategy())
    def each(case: Any) -> None:
        surprise = ask(case)
        if surprise is not None:
            found.append(f"{operation.label}: {surprise}")

    each()
    return found


async def test_rest_answers_as_described(shared_api: Harness, url: str) -> None:
    schema = schemathesis.openapi.from_dict(json.loads((HERE / "openapi.json").read_text("utf-8")))

    def ask(case: Any) -> str | None:
        headers = shared_api.headers()
        if any(name.lower() == "idempotency-key" for name in case.headers):
            headers.pop("Idempotency-Key")
        answer = case.call(base_url=url, headers=headers, timeout=60)
        if answer.status_code == AWAY:
            return None
        try:
            case.validate_response(answer, checks=CHECKS)
        except AssertionError as error:
            return f"{answer.status_code} {str(error)[:600]}"
        except schemathesis.errors.FailureGroup as group:
            return f"{answer.status_code} {[str(each)[:600] for each in group.exceptions]}"
        return None

    def all_operations() -> list[str]:
        return [each for found in schema.get_all_operations() for each in surprises(found.ok(), ask)]

    assert await asyncio.to_thread(all_operations) == [], f"seed {SEED}"


async def test_graphql_answers_every_query_it_describes(shared_api: Harness, url: str) -> None:
    schema = schemathesis.graphql.from_file((HERE / "schema.graphql").read_text("utf-8"))

    def ask(case: Any) -> str | None:
        answer = case.call(base_url=f"{url}/graphql", headers=shared_api.headers(), timeout=60)
        body = answer.json()
        codes = {error["extensions"]["code"] for error in body.get("errors", ())}
        if answer.status_code not in (200, 400, 413, 422) or "internal_error" in codes:
            return f"{answer.status_code} {answer.text[:600]} for {str(case.body)[:600]}"
        return None

    def all_fields() -> list[str]:
        return [each for found in schema.get_all_operations() for each in surprises(found.ok(), ask)]

    assert await asyncio.to_thread(all_fields) == [], f"seed {SEED}"
