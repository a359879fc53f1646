"""What each event's `data` holds: the promise to whoever receives events. `python -m api.export` writes it as JSON Schema.

Ids are UUIDs: the hexadecimal part of the id that the API shows. Amounts are strings of atomic units. A field may be added; none
is taken away or changes its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from custody.events.catalog import EVENTS

Fields = Mapping[str, Mapping[str, Any]]

ID: Mapping[str, Any] = {"type": "string", "format": "uuid"}
ID_OR_NULL: Mapping[str, Any] = {"type": ["string", "null"], "format": "uuid"}
TEXT: Mapping[str, Any] = {"type": "string"}
TEXT_OR_NULL: Mapping[str, Any] = {"type": ["string", "null"]}
COUNT: Mapping[str, Any] = {"type": "integer", "minimum": 0}
WHOLE: Mapping[str, Any] = {"type": "integer"}
MOMENT: Mapping[str, Any] = {"type": "string", "format": "date-time"}
MOMENT_OR_NULL: Mapping[str, Any] = {"type": ["string", "null"], "format": "date-time"}
ATOMIC: Mapping[str, Any] = {"type": "string", "pattern": "^-?(0|[1-9][0-9]*)$"}
ATOMIC_OR_NULL: Mapping[str, Any] = {"type": ["string", "null"], "pattern": "^-?(0|[1-9][0-9]*)$"}
ASSET: Mapping[str, Any] = {"type": "string", "examples": ["stellar:devnet/native"]}
TEXTS: Mapping[str, Any] = {"type": "array", "items": {"type": "string"}}

_BREAK: Fields = {
    "chain": TEXT,
    "vault_id": ID,
    "asset": ASSET,
    "height": COUNT,
    "books": ATOMIC,
    "opening": ATOMIC,
    "on_chain": ATOMIC,
    "difference": ATOMIC,
}
_PAYOUT: Fields = {
    "payout_id": ID,
    "wallet_id": ID,
    "bank_account_id": ID,
    "rail": TEXT,
    "asset": ASSET,
    "amount": ATOMIC,
    "state": TEXT,
    "reference": TEXT_OR_NULL,
    "external_ref": TEXT_OR_NULL,
    "reason": TEXT,
}
_WITHDRAWAL: Fields = {
    "id": ID,
    "kind": TEXT,
    "state": TEXT,
    "wallet_id": ID_OR_NULL,
    "vault_id": ID,
    "channel_id": ID_OR_NULL,
    "asset": ASSET,
    "destination": TEXT,
    "memo_type": TEXT,
    "memo": TEXT,
    "fee_kind": TEXT_OR_NULL,
    "fee_held": ATOMIC_OR_NULL,
    "fee_charged": ATOMIC_OR_NULL,
    "quote_id": ID_OR_NULL,
    "amount": ATOMIC,
    "digest": TEXT,
    "reason": TEXT,
    "expires_at": MOMENT,
    "execute_after": MOMENT_OR_NULL,
    "cool_until": MOMENT_OR_NULL,
}

OF_OBJECT: Mapping[str, Fields] = {
    "deposit": {
        "chain": TEXT,
        "height": COUNT,
        "block_hash": TEXT,
        "tx_hash": TEXT,
        "ordinal": COUNT,
        "asset": ASSET,
        "amount": ATOMIC,
        "wallet_id": ID_OR_NULL,
    },
    "case": {
        "deposit_id": ID,
        "state": TEXT,
        "reason": TEXT,
        "asset": ASSET,
        "amount": ATOMIC,
        "wallet_id": ID_OR_NULL,
        "withdrawal_id": ID_OR_NULL,
    },
    "ledger": {"batch": COUNT, "transfers": COUNT},
    "transfer": {
        "source_wallet_id": ID,
        "destination_wallet_id": ID,
        "asset": ASSET,
        "amount": ATOMIC,
        "fee": ATOMIC_OR_NULL,
    },
    "exchange": {
        "source_wallet_id": ID,
        "destination_wallet_id": ID,
        "sold_asset": ASSET,
        "sold": ATOMIC,
        "bought_asset": ASSET,
        "bought": ATOMIC,
        "fee": ATOMIC_OR_NULL,
        "rate_numerator": ATOMIC,
        "rate_denominator": ATOMIC,
        "rate_source": TEXT,
        "quoted_at": MOMENT,
        "rounding": TEXT,
        "reversed_at": MOMENT_OR_NULL,
    },
    "adjustment": {
        "adjustment_id": ID,
        "wallet_id": ID,
        "direction": TEXT,
        "asset": ASSET,
        "amount": ATOMIC,
        "reason": TEXT,
        "evidence": TEXT,
        "state": TEXT,
        "proposed_by": TEXT,
        "decided_by": TEXT_OR_NULL,
        "note": TEXT,
    },
    "withdrawal": _WITHDRAWAL,
    "address_entry": {
        "chain": TEXT,
        "address": TEXT,
        "memo_type": TEXT,
        "memo": TEXT,
        "label": TEXT,
        "state": TEXT,
        "counts_from": MOMENT_OR_NULL,
        "actor": TEXT,
    },
    "address_restriction": {
        "scope": TEXT,
        "owner_id": ID,
        "enabled": {"type": "boolean"},
        "counts_from": MOMENT,
        "actor": TEXT,
    },
    "sweep_rule": {
        "asset": ASSET,
        "threshold": ATOMIC,
        "dust": ATOMIC,
        "max_age_s": {"type": ["integer", "null"]},
        "fee_max": ATOMIC,
        "fee_share_max_bp": {"type": ["integer", "null"]},
        "enabled": {"type": "boolean"},
    },
    "vault_target": {
        "purpose": TEXT,
        "asset": ASSET,
        "low": ATOMIC,
        "target": ATOMIC,
        "high": ATOMIC,
        "enabled": {"type": "boolean"},
    },
    "withdrawal_batch": {"digest": TEXT, "initiator": TEXT, "lines": COUNT},
    "vault": {"chain": TEXT, "tx_hash": TEXT, "height": COUNT, "sequence": COUNT, "fee": ATOMIC},
    "holding": _BREAK,
    "tariff": {
        "asset": ASSET,
        "version": COUNT,
        "kind": TEXT,
        "flat": ATOMIC,
        "bps": COUNT,
        "minimum": ATOMIC,
        "maximum": ATOMIC_OR_NULL,
        "quote_valid_s": COUNT,
        "note": TEXT,
    },
    "withdrawal_quote": {
        "wallet_id": ID,
        "asset": ASSET,
        "amount": ATOMIC,
        "fee_kind": TEXT,
        "fee": ATOMIC,
        "tariff_version": {"type": ["integer", "null"], "minimum": 1},
        "expires_at": MOMENT,
    },
    "stop_rule": {"asset": ASSET, "version": COUNT, "threshold": ATOMIC, "note": TEXT},
    "chain": {
        "chain": TEXT,
        "fork_height": COUNT,
        "our_height": COUNT,
        "final_height": COUNT,
        "marks_spent": {"type": "boolean"},
        "note": TEXT,
        "trouble": TEXT,
    },
    "payout": _PAYOUT,
    "receipt": {
        "receipt_id": ID,
        "rail": TEXT,
        "external_ref": TEXT,
        "bank_account_id": ID,
        "wallet_id": ID_OR_NULL,
        "asset": ASSET,
        "amount": ATOMIC,
    },
    "recon": {
        "run_id": ID,
        "kind": TEXT,
        "owner": TEXT,
        "owner_id": TEXT_OR_NULL,
        "asset": ASSET,
        "books": ATOMIC,
        "outside": ATOMIC_OR_NULL,
        "detail": TEXT,
    },
    "switch": {"scope": TEXT, "subject": TEXT, "state": TEXT, "reason": TEXT, "by": TEXT},
    "webhook_endpoint": {
        "endpoint_id": ID,
        "host": TEXT,
        "types": TEXTS,
        "state": TEXT,
        "reason": TEXT,
        "abandoned": COUNT,
    },
    "webhook_delivery": {
        "delivery_id": ID,
        "endpoint_id": ID,
        "event_id": ID,
        "event_type": TEXT,
        "sequence": COUNT,
        "tries": COUNT,
        "status": {"type": ["integer", "null"]},
        "error": TEXT,
    },
    "access": {
        "id": ID,
        "kind": {"type": "string", "examples": ["api_key", "oauth_client", "member", "passkey", "role"]},
        "subject": TEXT,
        "roles": TEXTS,
        "scopes": TEXTS,
        "expires_at": {"type": ["string", "null"], "format": "date-time"},
        "replaces": ID_OR_NULL,
    },
}
"""Fields by the object that an event is about."""
MORE: Mapping[str, Fields] = {
    "withdrawal.decided": {"approver": TEXT, "decision": TEXT, "missing": COUNT},
    "withdrawal.stuck": {"stuck": TEXT},
    "withdrawal_batch.decided": {"approver": TEXT, "decision": TEXT, "missing": COUNT},
    "payout.contradicted": {"contradicting_event": TEXT, "source": TEXT},
    "holding.break_opened": {
        "first_height": COUNT,
        "first_tx": TEXT_OR_NULL,
        "first_movement": TEXT_OR_NULL,
        "first_on_chain": ATOMIC_OR_NULL,
        "first_in_books": ATOMIC_OR_NULL,
    },
    "holding.break_changed": {"before": ATOMIC},
}
"""What single events tell beyond that."""


def fields_of(event_type: str) -> Fields:
    """The fields of an event's data; all of them are always there. Raises KeyError for an object without fields."""
    return {**OF_OBJECT[event_type.partition(".")[0]], **MORE.get(event_type, {})}


def build_document() -> dict[str, Any]:
    """The JSON Schema of every event, each under its type in `$defs`. Source: JSON Schema 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Events",
        "description": (__doc__ or "").strip(),
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in EVENTS],
        "$defs": {name: _schema(name) for name in EVENTS},
    }


def _schema(event_type: str) -> dict[str, Any]:
    data = fields_of(event_type)
    envelope: dict[str, Mapping[str, Any]] = {
        "id": {
            "type": "string",
            "pattern": "^evt_[0-9a-f]{32}$",
            "description": "The same however often it is sent; also the header webhook-id.",
        },
        "type": {"const": event_type},
        "timestamp": {**MOMENT, "description": "When it happened."},
        "sequence": {
            **COUNT,
            "description": "1, 2, 3 … of the tenant, without gaps; of one object, the order in which things happened.",
        },
        "object_id": {**ID, "description": "What it is about: the hexadecimal part of its shown id."},
        "data": {
            "type": "object",
            "properties": {name: dict(kind) for name, kind in data.items()},
            "required": sorted(data),
        },
    }
    return {"type": "object", "properties": envelope, "required": sorted(envelope)}
