"""Batches: many payments under one approval (SPEC.md section 14). The document names every line by its digest, and their sums.

Who approves sees all lines and the sums that follow from them, and signs once; `check_lines` is what approver, requester and
signer each hold the lines against the document with. Rules judge every line by the sum of its asset, so that what is split into
many lines asks for as many people as it would in one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from signer.protocol import canonical
from signer.protocol import fields as check
from signer.protocol.approvals import Approval
from signer.protocol.canonical import FORMAT_VERSION, MalformedIntent, write_flat
from signer.protocol.governance import Parser, read_record
from signer.protocol.intent import (
    EvmErc20Transfer,
    EvmTransfer,
    Intent,
    StellarChannelPayment,
    StellarClaimablePayment,
    StellarContractPayment,
    StellarCreateAccount,
    StellarPayment,
)

DIGEST_TAG = b"custody-batch-v1\x00"
LINES_TAG = b"custody-batch-lines-v1\x00"
KIND = "payment_batch"
LINES_MAX = 100
"""Most lines of one batch; they have to fit a frame together."""

Place = tuple[str, str, str]
"""Where a sum counts: (chain, vault, asset)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Pay all of these lines, each by a transaction of its own."""

    request_id: str
    """UUID of the caller's choice."""
    org: str
    initiator: str
    """Principal who asked; may reject but never approve. Of every line the same, as are the next three."""
    policy_version: int
    not_before: int
    """Unix seconds."""
    expires_at: int
    """Unix seconds, exclusive."""
    count: int
    """Lines: 1 .. LINES_MAX."""
    lines: str
    """`lines_hash` of the lines' digests in their order, 64 lower-case hex."""
    totals: str
    """`sums_of` the lines as text: "chain|vault|asset|amount", sorted, joined by ","."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveBatch:
    """Take the approvals of a batch as approvals of each of its lines; a "reject" ends all lines that are not signed.

    Role: requester. Idempotent. Each line is then asked for by `Sign`, without approvals of its own.
    """

    batch: bytes
    """Canonical bytes."""
    lines: tuple[bytes, ...]
    """Canonical bytes of every line's intent, in order."""
    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchApproved:
    """The approvals count; answers ApproveBatch. Whether they suffice each line's rule says when it is to be signed."""

    batch_digest: str


_KINDS: Mapping[str, tuple[type[Batch], Mapping[str, Parser]]] = {
    KIND: (
        Batch,
        {
            "request_id": check.parse_uuid,
            "org": check.parse_name,
            "initiator": check.parse_name,
            "policy_version": check.parse_integer(1, 2**31 - 1),
            "not_before": check.parse_integer(0, check.TIME_MAX),
            "expires_at": check.parse_integer(1, check.TIME_MAX),
            "count": check.parse_integer(1, LINES_MAX),
            "lines": check.parse_hex32,
            "totals": lambda text: text,
        },
    )
}
_SHARED = ("org", "initiator", "policy_version", "not_before", "expires_at")


def encode(batch: Batch) -> bytes:
    """Return the canonical bytes; raises MalformedIntent when a field is outside its range."""
    values = {field.name: str(getattr(batch, field.name)) for field in fields(batch)}
    data = write_flat(values | {"kind": KIND, "v": FORMAT_VERSION})
    if decode(data) != batch:
        raise MalformedIntent("not_canonical")
    return data


def decode(data: bytes) -> Batch:
    """Return the batch of exactly these bytes; raises MalformedIntent. Its lines are for `check_lines`."""
    batch: Batch = read_record(data, _KINDS)
    if batch.expires_at <= batch.not_before:
        raise MalformedIntent("empty_window", "expires_at")
    return batch


def digest(data: bytes) -> bytes:
    """Return the 32 bytes that name this batch everywhere."""
    return hashlib.sha256(DIGEST_TAG + data).digest()


def lines_hash(digests: Sequence[bytes]) -> str:
    """Return the hash of the lines' digests in their order, in hex."""
    return hashlib.sha256(LINES_TAG + b"".join(digests)).hexdigest()


def sums_of(lines: Sequence[Intent]) -> dict[Place, int]:
    """Return what the lines move together. Raises MalformedIntent("bad_line") unless all are payments."""
    sums: dict[Place, int] = {}
    for line in lines:
        asset, amount = _moved(line)
        place = (line.chain, line.vault, asset)
        sums[place] = sums.get(place, 0) + amount
    return sums


def show_sums(sums: Mapping[Place, int]) -> str:
    """Return the sums as they stand in the document."""
    return ",".join(sorted("|".join((*place, str(amount))) for place, amount in sums.items()))


def build(lines: Sequence[bytes], request_id: str) -> bytes:
    """Return the document of a batch of these lines, which must agree in what they share. Raises MalformedIntent."""
    first, *_ = read = [canonical.decode(line) for line in lines]
    batch = Batch(
        request_id=request_id,
        **{name: getattr(first, name) for name in _SHARED},
        count=len(lines),
        lines=lines_hash([canonical.digest(line) for line in lines]),
        totals=show_sums(sums_of(read)),
    )
    check_lines(batch, lines)
    return encode(batch)


def check_lines(batch: Batch, lines: Sequence[bytes]) -> dict[bytes, Intent]:
    """Return the lines by digest, in order, when they are exactly those that the document names; raises MalformedIntent."""
    read = {canonical.digest(line): canonical.decode(line) for line in lines}
    if len(read) != len(lines):
        raise MalformedIntent("duplicate_line", "lines")
    if batch.count != len(lines) or batch.lines != lines_hash(list(read)):
        raise MalformedIntent("wrong_lines", "lines")
    for line in read.values():
        if any(getattr(line, name) != getattr(batch, name) for name in _SHARED):
            raise MalformedIntent("line_differs", "lines")
    if batch.totals != show_sums(sums_of(list(read.values()))):
        raise MalformedIntent("wrong_totals", "totals")
    return read


def _moved(line: Intent) -> tuple[str, int]:
    match line:
        case (
            StellarPayment() | StellarChannelPayment() | StellarContractPayment() | StellarClaimablePayment()
        ):
            return line.asset, line.amount
        case StellarCreateAccount() | EvmTransfer():
            return "native", line.amount
        case EvmErc20Transfer():
            return line.token, line.amount
        case _:
            raise MalformedIntent("bad_line", "lines")
