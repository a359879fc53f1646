"""Faults on demand: what a bad node or a bad network does to a client, switched on by count or until cleared."""

import hashlib
from dataclasses import dataclass, field, fields, replace
from typing import Any

from stellar_sdk import xdr

from devnet.stellar.store import LedgerRecord


class MisbehaviourInvalid(ValueError):
    """The request names an unknown fault or gives it a wrong value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults still to come. Counts go down by one each time; zero means none."""

    drop_next: int = 0
    """Submissions answered PENDING and then forgotten."""
    try_again_later_next: int = 0
    """Submissions answered TRY_AGAIN_LATER, whatever they are."""
    delay_next: int = 0
    """Submissions taken, but kept out of the next delay_ledgers ledgers."""
    delay_ledgers: int = 3
    lose_reply_next: int = 0
    """Submissions handled as usual, whose answer is replaced by HTTP 504: the client cannot know."""
    outage_next: int = 0
    """RPC requests answered with HTTP 503."""
    outage: bool = False
    """Answer every RPC request with HTTP 503 until cleared."""
    wrong_parent_next: int = 0
    """getLedgers answers whose newest ledger names a wrong parent, under a header hash that fits it."""
    latency_ms: int = 0
    """Time every RPC answer is held back."""
    surge_fee: int = 0
    """Congestion: what bids fewer stroops per operation waits in the queue, and the fee statistics say so. 0 for none."""
    keep_ledgers: int = 0
    """Retention of the RPC: it gives only so many of the newest ledgers. 0 for all."""
    horizon_without_meta: bool = False
    """Horizon gives no result_meta_xdr, as with its SKIP_TXMETA."""


@dataclass(slots=True)
class Misbehaviour:
    """Holds the faults in force. Not thread-safe by itself; the network's lock covers it."""

    faults: Faults = field(default_factory=Faults)

    def order(self, wanted: dict[str, Any]) -> Faults:
        """Merge a request into the faults in force; {"clear": true} first removes all. Raises MisbehaviourInvalid."""
        asked = dict(wanted)
        base = Faults() if asked.pop("clear", False) else self.faults
        known = {f.name: bool if isinstance(f.default, bool) else int for f in fields(Faults)}
        for name, value in asked.items():
            if name not in known:
                raise MisbehaviourInvalid(f"unknown fault {name!r}; known: {', '.join(known)}, clear")
            if type(value) is not known[name] or value < 0:
                raise MisbehaviourInvalid(f"{name} must be a {known[name].__name__} of at least 0")
        self.faults = replace(base, **asked)
        return self.faults

    def take(self, name: str) -> bool:
        """Use up one of a counted fault; False when none is left."""
        left = getattr(self.faults, name)
        if not left:
            return False
        self.faults = replace(self.faults, **{name: left - 1})
        return True

    def out_of_service(self) -> bool:
        return self.faults.outage or self.take("outage_next")


def with_wrong_parent(record: LedgerRecord) -> LedgerRecord:
    """The ledger with another parent and the header hash that follows from it: only the chain betrays it."""
    meta = xdr.LedgerCloseMeta.from_xdr_bytes(record.meta)
    if meta.v2 is None:
        raise ValueError("this network only writes LedgerCloseMeta V2")
    entry = meta.v2.ledger_header
    entry.header.previous_ledger_hash = xdr.Hash(hashlib.sha256(record.hash).digest())
    entry.hash = xdr.Hash(hashlib.sha256(entry.header.to_xdr_bytes()).digest())
    return replace(record, hash=entry.hash.hash, header=entry, meta=meta.to_xdr_bytes())
