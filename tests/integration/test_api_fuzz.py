"""Every documented operation, thrown at with wild values: never a 5xx, never an answer that the document does not name."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.export import HERE
from custody.db.session import Database
from tests.integration.api_harness import ETH, EUR, STRANGER, STRANGER_EVM, XLM, Harness, running

ROUNDS = 25
"""Wild requests per operation and run."""


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def test_wild_requests_meet_only_documented_answers(api: Harness) -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    document = json.loads((HERE / "openapi.json").read_text("utf-8"))
    surprises = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for _ in range(ROUNDS):
                request = wild_request(chance, api, document, path, method, operation)
                answer = await api.http.request(**request)
                documented = str(answer.status_code) in operation["responses"]
                if not documented or answer.status_code >= 500:
                    surprises.append((answer.status_code, answer.text[:300], request))
    assert surprises == [], f"seed {seed}"


def wild_request(
    chance: random.Random,
    api: Harness,
    document: dict[str, Any],
    path: str,
    method: str,
    operation: dict[str, Any],
) -> dict[str, Any]:
    """A request that is right in most of its parts."""
    request: dict[str, Any] = {"method": method.upper(), "headers": api.headers()}
    url = path
    for each in operation.get("parameters", ()):
        if each.get("in") == "path":
            url = url.replace("{" + each["name"] + "}", chance.choice(path_values(api)))
        elif each.get("in") == "query" and chance.random() < 0.5:
            value = chance.choice(
                ["", "x", "-1", "50", "101", "9" * 30, "pending", "Y3VzdG9tZXJzOjE", "%00", "é"]
            )
            request.setdefault("params", {})[each["name"]] = value
    body = operation.get("requestBody")
    if body is not None and chance.random() < 0.95:
        kind, content = next(iter(body["content"].items()))
        if kind != "application/json":
            fields = {name: chance.choice(["", "x", "\x00", "é"]) for name in content["schema"]["properties"]}
            return {**request, "url": url, "data": fields}
        content = content["schema"]
        request["content"] = json.dumps(wild_value(chance, api, document, content, "body"))
        request["headers"]["Content-Type"] = "application/json"
    return {**request, "url": url}


def wild_value(
    chance: random.Random, api: Harness, document: dict[str, Any], schema: dict[str, Any], name: str
) -> Any:
    """A value for a schema: mostly one that fits the field, sometimes one that fits nothing."""
    if chance.random() < 0.04:
        return chance.choice(
            [None, 0, -1, 2**70, 1.5, True, "", "x" * 300, [], {}, "\u0000", "\ud800", "é\u202e"]
        )
    if "$ref" in schema:
        return wild_value(
            chance, api, document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], name
        )
    if "anyOf" in schema:
        return wild_value(chance, api, document, chance.choice(schema["anyOf"]), name)
    if "properties" in schema:
        required = schema.get("required", ())
        chosen = {
            key: wild_value(chance, api, document, inner, key)
            for key, inner in schema["properties"].items()
            if (key in required and chance.random() < 0.97) or chance.random() < 0.4
        }
        return chosen | ({"surplus": 1} if chance.random() < 0.03 else {})
    if "enum" in schema:
        return chance.choice([*schema["enum"], "else"])
    return chance.choice([*schema.get("examples", [schema.get("default")]), *fitting(api, name)])


def fitting(api: Harness, name: str) -> list[Any]:
    """Values that a field of this name may well have."""
    known: dict[str, list[Any]] = {
        "asset": [XLM.text, ETH.text, EUR.text, "fiat/USD", "stellar:devnet/x"],
        "amount": ["1", "0", "-5", "10000000000", str(2**256 - 1), str(2**256), "1.0", "１"],
        "destination": [STRANGER, STRANGER_EVM, STRANGER_EVM.lower(), STRANGER[:-1], api.tenant.wallet],
        "query": [
            "{ assets { id } }",
            "{",
            "query { customers(first: 1) { edges { node { id } } } }",
            "{ __schema { types { name } } }",
        ],
        "variables": [{}, {"a": [1]}, None],
        "expires_in_s": [1, 3600, 10**12],
        "decimals": [0, 36, 37, -1],
    }
    ids = [api.tenant.wallet, api.tenant.empty_wallet, api.other.wallet, api.tenant.customer, "wal_1", ""]
    return known.get(name, ids if name.endswith("_id") else ["abc", "é", "a b", "\u0007"])


def path_values(api: Harness) -> list[str]:
    """What may stand in a path."""
    return [
        api.tenant.wallet,
        api.other.wallet,
        api.tenant.vault,
        api.tenant.customer,
        "wdr_" + "0" * 32,
        "sandbox",
        "x" * 60,
        "%00",
        "%C3%A9",
    ]
