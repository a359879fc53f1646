"""An example for every body in the OpenAPI document, put together from the examples of its fields."""

from __future__ import annotations

from typing import Any

_BY_NAME: dict[str, Any] = {
    "id": "wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3",
    "asset": "stellar:devnet/native",
    "to_asset": "fiat/EUR",
    "chain": "stellar:devnet",
    "decimals": 7,
    "next_cursor": None,
    "digest": "9f2c4e6a8b0d1f3355779911bbddff00224466880aaccee1133557799bbddff0",
    "requested_by": "treasury-app",
    "proposed_by": "alice",
    "decided_by": "bob",
    "name": "Savings",
    "memo": None,
}
"""Where fields of a name mean the same everywhere and their schema has no example."""
_PREFIXES = {
    "wallet_id": "wal",
    "customer_id": "cus",
    "vault_id": "vlt",
    "withdrawal_id": "wdr",
    "case_id": "cas",
}
_DEPTH_MAX = 8


class Examples:
    """Builds examples from one document's schemas."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        """`schemas` is `components.schemas`."""
        self._schemas = schemas

    def of(self, schema: dict[str, Any], name: str = "", depth: int = 0) -> Any:
        """A value that the schema allows."""
        if "example" in schema:
            return schema["example"]
        if schema.get("examples"):
            return schema["examples"][0]
        if "$ref" in schema:
            return self.of(self._schemas[schema["$ref"].rpartition("/")[2]], name, depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        for several in ("anyOf", "oneOf", "allOf"):
            if several in schema:
                return self._any_of(schema[several], name, depth)
        if name in _BY_NAME and _fits(_BY_NAME[name], schema):
            return _BY_NAME[name]
        return self._by_type(schema, name, depth)

    def _any_of(self, choices: list[dict[str, Any]], name: str, depth: int) -> Any:
        nullable = any(each.get("type") == "null" for each in choices)
        if nullable and (depth > _DEPTH_MAX or _BY_NAME.get(name, 0) is None):
            return None
        return self.of(next(each for each in choices if each.get("type") != "null"), name, depth + 1)

    def _by_type(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        match schema.get("type"):
            case "object":
                fields = schema.get("properties", {})
                return {field: self.of(inner, field, depth + 1) for field, inner in fields.items()}
            case "array":
                return [] if depth > _DEPTH_MAX else [self.of(schema.get("items", {}), name, depth + 1)]
            case "integer" | "number":
                return schema.get("default", schema.get("minimum", 1))
            case "boolean":
                return schema.get("default", False)
            case "string":
                return _text(name)
            case _:
                return None


def _text(name: str) -> str:
    if name.endswith("_at") or name == "expires_at":
        return "2026-11-22T10:15:00Z"
    for ending, prefix in _PREFIXES.items():
        if name.endswith(ending):
            return f"{prefix}_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"
    return "text"


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    kinds: dict[str, type] = {"string": str, "integer": int}
    return isinstance(value, kinds.get(str(schema.get("type")), type(None)))
