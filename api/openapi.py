"""Finishes the OpenAPI document: problems as `application/problem+json`, and the security that every route has.

The framework writes models under `application/json` also for refusals; clients that are generated from the document would then
look for the wrong media type.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.errors import (
    PROBLEM_MEDIA_TYPE,
    BodyTooLarge,
    KeyMissing,
    UnsupportedMediaType,
    neutral_problem,
    problem_of,
)
from api.idempotency import REPLAYED_HEADER
from custody.identity.errors import InvalidApiKey, MissingScope
from custody.ledger.errors import InsufficientFunds
from custody.signing.errors import SignerUnreachable
from custody.withdrawals.errors import CancelTooLate, UnknownWithdrawal

DESCRIPTION = """Custody of Stellar and EVM money, and payouts in fiat.

Amounts are strings of atomic units. Ids carry a prefix that tells their kind. Lists come in pages: give `next_cursor` back as
`cursor`. Every request that changes something needs an `Idempotency-Key`: the same key and body give the same answer, marked
by the header `Idempotency-Replayed`; another body is refused. Refusals are problem documents (RFC 9457): branch on `code`.
"""


def describe(api: FastAPI) -> None:
    """Have the application serve the finished document, made once."""
    made: dict[str, dict[str, Any]] = {}

    def openapi() -> dict[str, Any]:
        if "document" not in made:
            made["document"] = build_document(api)
        return made["document"]

    api.openapi = openapi  # type: ignore[method-assign]  # the framework's documented way to replace it


def build_document(api: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the application's routes."""
    document = get_openapi(
        title=api.title,
        version=api.version,
        openapi_version="3.1.0",
        description=DESCRIPTION,
        routes=api.routes,
    )
    responses: dict[str, Any] = {}
    for path in document["paths"].values():
        for operation in path.values():
            told = operation["responses"]
            for status in list(told):
                if int(status) >= 400 and _is_problem(told[status]):
                    name = f"Problem{status}"
                    responses.setdefault(name, _problem_response(int(status), told[status]["description"]))
                    told[status] = {"$ref": f"#/components/responses/{name}"}
                elif _has_key(operation):
                    told[status]["headers"] = _REPLAYED
    document["components"]["responses"] = dict(sorted(responses.items()))
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    return document


_REPLAYED = {
    REPLAYED_HEADER: {
        "description": "`true` when this is the recorded answer of an earlier call with the same key.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}

_EXAMPLES = {
    400: KeyMissing(),
    401: InvalidApiKey(),
    403: MissingScope(permission="transfers:request"),
    404: UnknownWithdrawal(),
    409: CancelTooLate(state="broadcasting"),
    413: BodyTooLarge(bytes_max=1_048_576),
    415: UnsupportedMediaType(content_type="text/plain"),
    422: InsufficientFunds(),
    503: SignerUnreachable(),
}


def _problem_response(status: int, description: str) -> dict[str, Any]:
    trace_id = "0192f0a81c7a7d10b5b0c8e6f7a1d2c3"
    error = _EXAMPLES.get(status)
    example = neutral_problem(trace_id) if error is None else problem_of(error, trace_id)
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example.model_dump()}
    return {"description": description, "content": {PROBLEM_MEDIA_TYPE: content}}


def _is_problem(told: dict[str, Any]) -> bool:
    """Whether a refusal is one of ours; the token endpoint's are OAuth's."""
    schema = told.get("content", {}).get("application/json", {}).get("schema", {})
    return not str(schema.get("$ref", "")).endswith("/OAuthErrorOut")


def _has_key(operation: dict[str, Any]) -> bool:
    return any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", ()))
