"""A batch before an approver's eyes: every line, what they come to, and the digest of the document that names them all.

The lines come from an API that may be hostile. Each is hashed here and held against the document, and so are the sums, before
anything is shown; what is signed is the digest of that document.
"""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass
from typing import Any

from cli.intent_words import amount_in_words, describe, plain
from signer.protocol import batch
from signer.protocol.batch import Batch
from signer.protocol.intent import Intent

_SHARED = ("org", "initiator", "policy_version", "not_before", "expires_at")
"""Shown once: the document and every line have the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBatch:
    """A batch whose lines are those that its document names."""

    document: Batch
    digest: bytes
    lines: list[Intent]


def read_batch(body: dict[str, Any]) -> ReadBatch:
    """Return the batch that the API shows; raises MalformedIntent when lines or sums are not the document's, TypeError or
    ValueError when the answer has another form."""
    encoded, lines = body.get("document"), body.get("lines")
    if not isinstance(encoded, str) or not isinstance(lines, list):
        raise TypeError("the API's answer has another form")
    data = base64.b64decode(encoded, validate=True)
    document = batch.decode(data)
    read = batch.check_lines(document, [base64.b64decode(str(line), validate=True) for line in lines])
    return ReadBatch(document=document, digest=batch.digest(data), lines=list(read.values()))


def show_batch(found: ReadBatch, approver_set_version: int) -> None:
    """Print every line and the sums, to the approver's eyes and not into a pipe."""
    for place, line in enumerate(found.lines, start=1):
        facts = dict(describe(line))
        rest = [f"{name} {text}" for name, text in facts.items() if name not in (*_SHARED, "amount")]
        print(f"  {place:>3}  {facts['amount']} to {facts['destination']}", file=sys.stderr)
        print(f"       {', '.join(rest)}", file=sys.stderr)
    print(f"  {len(found.lines)} payments, together:", file=sys.stderr)
    for (chain, vault, asset), amount in sorted(batch.sums_of(found.lines).items()):
        print(f"       {amount_in_words(chain, asset, amount)}  from {vault} on {chain}", file=sys.stderr)
    shared = dict(describe(found.lines[0]))
    for name in _SHARED:
        print(f"  {name:<15}  {shared[name]}", file=sys.stderr)
    print(f"  {'approver_set':<15}  {approver_set_version}", file=sys.stderr)
    whole = found.digest.hex()
    groups = " ".join(whole[start : start + 8] for start in range(0, len(whole), 8))
    print(f"  {'digest':<15}  {groups}", file=sys.stderr)


def show_row(row: object) -> None:
    """Print one line about a batch that waits, from its own bytes."""
    if not isinstance(row, dict):
        raise TypeError("the API's answer has another form")
    found = read_batch(row)
    until = dict(describe(found.lines[0]))["expires_at"]
    sums = ", ".join(
        amount_in_words(chain, asset, amount)
        for (chain, _, asset), amount in sorted(batch.sums_of(found.lines).items())
    )
    missing = plain(row.get("missing", "?"))
    print(
        f"{plain(row.get('id'))}  batch of {len(found.lines)}  {sums}  until {until}  {missing} approvals missing"
    )
