"""Every route and every field, tried as everybody: what `tests/golden/access_matrix.txt` is made of and compared with."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from inspect import isawaitable
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
from graphql import (
    ExecutionResult,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    Undefined,
    get_named_type,
    parse,
    subscribe,
)
from graphql.type import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLList,
)

from api.auth import caller_of
from api.graphql.access import root_permissions
from api.graphql.subscription import Watching
from custody.events.model import Event
from custody.identity.errors import MissingScope
from custody.kernel.errors import Unauthenticated
from tests.integration.api_harness import STRANGER, XLM, Harness

IDS = {
    "approval_id": "wdr", "case_id": "cas", "customer_id": "cus", "deposit_id": "dep", "delivery_id": "whd", "endpoint_id": "whe",
    "exchange_id": "exc", "payout_id": "pay", "transfer_id": "trf", "vault_id": "vlt", "wallet_id": "wal",
    "withdrawal_id": "wdr", "key_id": "key", "client_id": "cli", "passkey_id": "psk", "adjustment_id": "adj",
    "batch_id": "bat", "bulk_id": "blk", "entry_id": "abe", "quote_id": "qte", "switch_id": "swi", "step_up_id": "stu",
    "role_id": "rol",
}  # fmt: skip
"""Path parameter to the prefix of its ids."""


_OF_MUTATIONS = {
    "Payout": "payout_id", "Batch": "batch_id", "Case": "case_id", "Adjustment": "adjustment_id", "AddressEntry": "entry_id",
}  # fmt: skip
"""Word of a mutation's name to what its `id` names; a withdrawal otherwise."""
_ID_FIELDS = ("to_wallet_id", "wallet_id", "customer_id")


async def walk(api: Harness, who: Mapping[str, str | None], document: dict[str, Any]) -> str:
    """The table: a line per route and field, a column per kind of caller. `y` gets in, `.` does not."""
    names = list(who)
    lines = [_line("", names, names, "another tenant's")]
    for path, methods in sorted(document["paths"].items()):
        for method, operation in sorted(methods.items()):
            cells = [await _enters(api, method, path, secret) for secret in who.values()]
            other = await _other(api, who, method, path, operation, document)
            lines.append(_line(f"{method.upper()} {path}", names, cells, other))
    schema: GraphQLSchema = api.asgi.state.graphql.core
    for at in sorted(root_permissions(schema)):
        cells, others = [], set()
        for secret in who.values():
            own, other = await _reads(api, schema, at, secret)
            cells.append(own)
            if own == "y":
                others.add(other)
        lines.append(_line(at, names, cells, "/".join(sorted(others - {""})) or "-"))
    return "\n".join(lines) + "\n"


def _line(what: str, names: list[str], cells: list[str], other: str) -> str:
    row = " ".join(f"{cell:{len(name)}}" for name, cell in zip(names, cells, strict=True))
    return f"{what:58}{row}  {other}"


async def _enters(api: Harness, method: str, path: str, secret: str | None) -> str:
    """Whether a call gets beyond the door. It names nothing that exists and says nothing, so that nothing happens."""
    answer = await _call(api, method, _fill(path, _strange_ids()), secret, None)
    if answer.status_code >= 500:
        raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
    return "." if answer.status_code in (401, 403) else "y"


async def _other(
    api: Harness,
    who: Mapping[str, str | None],
    method: str,
    path: str,
    operation: dict[str, Any],
    document: dict[str, Any],
) -> str:
    """How calls end that are right in all, but name another tenant's object: never as if it were one's own."""
    body = None
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        body = _foreign(api, example(document, content["application/json"]["schema"]))
    if path.startswith("/v1/rails") or ("{" not in path and not names_objects(body)):
        return "-"
    found = set()
    for name, secret in who.items():
        answer = await _call(api, method, _fill(path, _other_ids(api)), secret, body)
        if answer.status_code not in (401, 403):
            found.add(_outcome(answer, f"{name}: {method} {path}"))
    return "/".join(sorted(found)) or "nobody"


def _outcome(answer: httpx.Response, what: str) -> str:
    if answer.status_code == 404:
        return "404"
    if answer.status_code == 200 and answer.json().get("data") == []:
        return "empty"
    return f"{answer.status_code} {answer.json().get('code')} ({what})"


async def _reads(api: Harness, schema: GraphQLSchema, at: str, secret: str | None) -> tuple[str, str]:
    """Whether a root field answers, and what it answers about another tenant's objects."""
    root, _, name = at.partition(".")
    kind = schema.get_type(root)
    assert isinstance(kind, GraphQLObjectType)
    field = kind.fields[name]
    if root == "Subscription":
        return ("y" if await _subscribes(api, schema, name, secret) else "."), ""
    if root == "Mutation":
        return await _changes(api, name, field, secret)
    shown = []
    for ids in (_own_ids(api), _other_ids(api)):
        document = f"{root.lower()} {{ it: {name}{_arguments(field, ids)}{_selection(field)} }}"
        answer = await _call(api, "post", "/graphql", secret, {"query": document})
        if answer.status_code in (401, 403):
            return ".", ""
        body = answer.json()
        codes = {error["extensions"]["code"] for error in body.get("errors", ())}
        if "missing_scope" in codes:
            return ".", ""
        if "invalid_query" in codes:
            raise AssertionError(f"{document}: {body}")
        shown.append(_what(body, codes))
    return "y", shown[1] if _arguments(field, {}) or "id" in field.args else ""


async def _subscribes(api: Harness, schema: GraphQLSchema, name: str, secret: str | None) -> bool:
    """Whether a field of the subscription begins."""
    try:
        caller = await caller_of(api.app, api.asgi.state.gate, secret or "")
    except (Unauthenticated, MissingScope):
        return False
    document = parse(f"subscription {{ it: {name} {{ __typename }} }}")
    begun = subscribe(schema, document, context_value=Watching(caller, NoEvents()))
    found = await begun if isawaitable(begun) else begun
    if not isinstance(found, ExecutionResult):
        await found.aclose()
        return True
    assert [type(error.original_error) for error in found.errors or ()] == [MissingScope]
    return False


class NoEvents:
    """A feed in which nothing happens."""

    async def events(self) -> AsyncIterator[Event]:
        return
        yield


async def _changes(api: Harness, name: str, field: GraphQLField, secret: str | None) -> tuple[str, str]:
    """Whether a mutation may be asked for, and how it ends that names another tenant's objects: never as if it were one's own."""
    shown = []
    for ids in (_strange_ids() | {"wallet": f"wal_{uuid4().hex}"}, _other_ids(api)):
        given = {each: _value(argument.type, each, ids, name) for each, argument in field.args.items()}
        kinds = ", ".join(f"${each}: {argument.type}" for each, argument in field.args.items())
        passed = ", ".join(f"{each}: ${each}" for each in given)
        document = f"mutation({kinds}) {{ it: {name}({passed}) {{ status errors {{ code }} }} }}"
        answer = await _call(api, "post", "/graphql", secret, {"query": document, "variables": given})
        if answer.status_code in (401, 403):
            return ".", ""
        codes = {error["extensions"]["code"] for error in answer.json().get("errors", ())}
        if "missing_scope" in codes:
            return ".", ""
        assert not codes, (document, given, answer.json())
        shown.append(_ended(answer.json()["data"]["it"]))
    names_any = any(
        word in str(given) for word in ("'walletId'", "'customerId'", "'fromWalletId'", "'id'", "'objectId'")
    )
    return "y", shown[1] if names_any else ""


def _ended(payload: dict[str, Any]) -> str:
    codes = {error["code"] for error in payload["errors"]}
    if codes and all(code.startswith("unknown_") for code in codes):
        return "404"
    return "/".join(sorted(codes)) or f"SHOWN {payload['status']}"


def _value(kind: GraphQLInputType, name: str, ids: Mapping[str, str], mutation: str) -> Any:
    """An argument's value; nothing that may be left out."""
    bare = kind.of_type if isinstance(kind, GraphQLNonNull) else kind
    if isinstance(bare, GraphQLInputObjectType):
        return {
            each: _value(inner.type, each, ids, mutation)
            for each, inner in bare.fields.items()
            if isinstance(inner.type, GraphQLNonNull) and inner.default_value is Undefined
        } | ({"memo": None} if mutation == "returnCase" else {})
    if isinstance(bare, GraphQLList):
        return [_value(bare.of_type, name, ids, mutation)]
    if isinstance(bare, GraphQLEnumType):
        return next(iter(bare.values))
    if bare is GraphQLBoolean:
        return True
    samples = {
        "idempotencyKey": uuid4().hex, "asset": XLM.text, "amount": "10", "destination": STRANGER, "chain": XLM.chain,
        "bankAccountId": f"bnk_{uuid4().hex}", "toWalletId": ids["wallet"], "fromWalletId": ids["wallet"],
        "beneficiaryIban": "DE89370400440532013000", "publicKey": "00" * 32, "signature": "00" * 64,
        "address": STRANGER, "objectId": ids["vault_id"],
    }  # fmt: skip
    if name == "id":
        return ids[next((of for word, of in _OF_MUTATIONS.items() if word in mutation), "withdrawal_id")]
    if name == "walletId":
        return ids["wallet"]
    if name == "toWalletId" and "empty" in ids:
        return ids["empty"]
    return samples.get(name, ids.get("customer_id") if name == "customerId" else "sample")


def _what(body: dict[str, Any], codes: set[str]) -> str:
    found = (body.get("data") or {}).get("it")
    if codes:
        return "/".join(sorted(codes))
    if found is None:
        return "null"
    if found == [] or (isinstance(found, dict) and found.get("edges") == []):
        return "empty"
    return "SHOWN"


def _arguments(field: GraphQLField, ids: Mapping[str, str]) -> str:
    given = []
    for name, argument in field.args.items():
        kind: GraphQLInputType = argument.type
        if name in ("id", "walletId", "vaultId"):
            prefix = "" if name == "id" else name.removesuffix("Id")
            given.append((name, ids.get(prefix or _id_of(field), "")))
        elif name == "at":
            given.append((name, "2026-01-01T00:00:00Z"))
        elif (isinstance(kind, GraphQLNonNull) and argument.default_value is None) or name == "asset":
            given.append((name, XLM.text))
    return f"({', '.join(f'{name}: {json.dumps(value)}' for name, value in given)})" if given else ""


def _id_of(field: GraphQLField) -> str:
    return get_named_type(field.type).name.lower()


def _selection(field: GraphQLField) -> str:
    kind = get_named_type(field.type)
    if not isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
        return ""
    return " { edges { cursor } }" if kind.name.endswith("Connection") else " { __typename }"


async def _call(api: Harness, method: str, path: str, secret: str | None, body: object) -> httpx.Response:
    headers = {"Idempotency-Key": uuid4().hex}
    if secret is not None:
        headers["Authorization"] = f"Bearer {secret}"
    return await api.http.request(method.upper(), path, headers=headers, json=body)


def names_objects(body: object) -> bool:
    """Whether a body has another object's id in it."""
    if isinstance(body, list):
        return any(map(names_objects, body))
    if not isinstance(body, dict):
        return False
    return any(name.endswith(_ID_FIELDS) or names_objects(value) for name, value in body.items())


def _foreign(api: Harness, body: Any) -> Any:
    """The body with every id of a wallet or customer in it replaced by another tenant's."""
    if isinstance(body, list):
        return [_foreign(api, each) for each in body]
    if not isinstance(body, dict):
        return body
    known = {"to_wallet_id": api.other.empty_wallet} | _ids_of(api.other)
    return {
        name: next(
            (value for kind, value in known.items() if kind in _ID_FIELDS and name.endswith(kind)), None
        )
        or _foreign(api, inner)
        for name, inner in body.items()
    }


def _fill(path: str, ids: Mapping[str, str]) -> str:
    for name, value in ids.items():
        path = path.replace("{" + name + "}", value)
    return (
        path.replace("{rail}", "sandbox")
        .replace("{asset}", quote(XLM.text, safe=""))
        .replace("{subject}", "nobody-here")
    )


def _strange_ids() -> dict[str, str]:
    return {name: f"{prefix}_{uuid4().hex}" for name, prefix in IDS.items()}


def _own_ids(api: Harness) -> dict[str, str]:
    return _ids_of(api.tenant)


def _other_ids(api: Harness) -> dict[str, str]:
    return _strange_ids() | _ids_of(api.other)


def _ids_of(tenant: Any) -> dict[str, str]:
    known = {
        "customer": tenant.customer, "wallet": tenant.wallet, "vault": tenant.vault, "node": tenant.wallet,
        "withdrawal": tenant.withdrawal, "payout": f"pay_{uuid4().hex}", "withdrawalbatch": f"bat_{uuid4().hex}",
        "adjustment": f"adj_{uuid4().hex}", "bulktransfer": f"blk_{uuid4().hex}",
        "empty": tenant.empty_wallet,
    }  # fmt: skip
    return known | {
        "customer_id": tenant.customer, "wallet_id": tenant.wallet, "vault_id": tenant.vault,
        "withdrawal_id": tenant.withdrawal, "approval_id": tenant.withdrawal,
    }  # fmt: skip


def example(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """A body made of the document's own examples."""
    if "$ref" in schema:
        return example(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if schema.get("examples"):
        return schema["examples"][0]
    if "anyOf" in schema:
        return example(document, schema["anyOf"][0])
    if "properties" in schema:
        wanted = schema.get("required", ())
        return {
            name: example(document, inner) for name, inner in schema["properties"].items() if name in wanted
        }
    if schema.get("type") == "array":
        return [example(document, schema["items"])]
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    return {"string": "x", "integer": schema.get("minimum", 1), "boolean": True}.get(str(schema.get("type")))
