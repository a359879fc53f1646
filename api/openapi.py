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
    SlowBody,
    UnsupportedMediaType,
    neutral_problem,
    problem_of,
)
from api.examples import Examples
from api.idempotency import REPLAYED_HEADER
from api.versions import VERSION_HEADER, VERSIONS
from custody.identity.errors import InvalidApiKey, MissingScope
from custody.ledger.errors import InsufficientFunds
from custody.signing.errors import SignerUnreachable
from custody.withdrawals.errors import CancelTooLate, UnknownWithdrawal

DESCRIPTION = """Custody of Stellar and EVM money, and payouts in fiat.

Amounts are strings of atomic units. Ids carry a prefix that tells their kind. Lists come in pages: give `next_cursor` back as
`cursor`. Every request that changes something needs an `Idempotency-Key`: the same key and body give the same answer, marked
by the header `Idempotency-Replayed`; another body is refused. Refusals are problem documents (RFC 9457): branch on `code`.
Reads carry an `ETag`; with `If-None-Match` an answer that would be the same is 304. `Custody-Version` pins a version.
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
        for method, operation in path.items():
            _tell_conventions(method, operation)
            told = operation["responses"]
            for status in list(told):
                if int(status) >= 400 and _is_problem(told[status]):
                    name = f"Problem{status}"
                    responses.setdefault(name, _problem_response(int(status), told[status]["description"]))
                    told[status] = {"$ref": f"#/components/responses/{name}"}
                elif _has_key(operation):
                    told[status]["headers"] = {**_REPLAYED, **told[status].get("headers", {})}
    _tell_examples(document)
    responses["GraphQLRefused"] = _graphql_refusal(responses["Problem400"])
    document["paths"]["/graphql"]["post"]["responses"]["400"]["$ref"] = (
        "#/components/responses/GraphQLRefused"
    )
    document["components"]["responses"] = dict(sorted(responses.items()))
    document["components"]["parameters"] = _PARAMETERS
    document["components"]["headers"] = _HEADERS
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    return document


_EVERYWHERE = {
    400: "A header, a cursor or the body is malformed, or the version is unknown.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not declared as application/json, or is encoded.",
    429: "Too many requests; `Retry-After` says when to come back.",
}
"""What any request may meet, whatever it asks for."""


def _tell_conventions(method: str, operation: dict[str, Any]) -> None:
    """What holds for every operation and is done at the edge, not by routes."""
    told = operation["responses"]
    for status, description in _EVERYWHERE.items():
        told.setdefault(str(status), {"description": description})
    named = operation.setdefault("parameters", [])
    named.append({"$ref": "#/components/parameters/Version"})
    done = [status for status in told if int(status) < 300]
    for status in done:
        told[status]["headers"] = {
            name: {"$ref": f"#/components/headers/{name}"} for name in (VERSION_HEADER, "RateLimit")
        }
    if method == "get":
        named.append({"$ref": "#/components/parameters/IfNoneMatch"})
        told["304"] = {"description": "The client has this answer already, by its `ETag`."}
        for status in done:
            told[status]["headers"]["ETag"] = {"$ref": "#/components/headers/ETag"}


def _tell_examples(document: dict[str, Any]) -> None:
    """An example of every body that goes in, and of every one that comes out."""
    examples = Examples(document["components"]["schemas"])
    for path in document["paths"].values():
        for operation in path.values():
            bodies = [operation.get("requestBody", {})]
            bodies += [told for status, told in operation["responses"].items() if status.startswith("2")]
            for body in bodies:
                for content in body.get("content", {}).values():
                    if content.get("schema"):
                        content.setdefault("example", examples.of(content["schema"]))
    document["paths"]["/graphql"]["post"]["requestBody"]["content"]["application/json"]["example"] = {
        "query": "{ chains { chain cursorHeight lagBlocks } }"
    }


_PARAMETERS = {
    "Version": {
        "name": VERSION_HEADER,
        "in": "header",
        "required": False,
        "description": "The version of this API that the client was written for; without it, the newest.",
        "schema": {"type": "string", "enum": list(VERSIONS)},
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "required": False,
        "description": "The `ETag` of an answer that the client has: 304 without a body if it would be the same.",
        "schema": {"type": "string"},
    },
}
_HEADERS = {
    VERSION_HEADER: {
        "description": "The version that was answered in.",
        "schema": {"type": "string", "enum": list(VERSIONS)},
    },
    "ETag": {"description": "Names the content of this answer.", "schema": {"type": "string"}},
    "RateLimit": {
        "description": "What is left of the policy in `RateLimit-Policy`, and the seconds until there is more.",
        "schema": {"type": "string"},
        "example": '"read";r=598;t=1',
    },
}

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
    408: SlowBody(timeout_s=15),
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


def _graphql_refusal(problem: dict[str, Any]) -> dict[str, Any]:
    """A document that cannot be executed is refused in GraphQL's own words; what is no such request at all, as a problem."""
    errors: dict[str, Any] = {"schema": {"type": "object", "required": ["errors"]}}
    content = {**problem["content"], "application/json": errors, "application/graphql-response+json": errors}
    return {
        "description": "The request is malformed, or the document cannot be executed.",
        "content": content,
    }


def _has_key(operation: dict[str, Any]) -> bool:
    return any(parameter.get("name") == "Idempotency-Key" for parameter in operation.get("parameters", ()))
