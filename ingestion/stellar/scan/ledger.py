"""One LedgerCloseMeta read for what custody needs: its place in the chain, whom it names, and where each transaction's parts lie.

Everything else is skipped, but not unseen: the walk ends at the last byte or the ledger is refused. Envelopes, results and meta
are decoded by the SDK afterwards, for the few transactions that touch our accounts. Pure.
Source: Stellar-ledger.x (LedgerCloseMeta V0 to V2, TransactionMeta V0 to V4).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from functools import cache

from ingestion.errors import BrokenHashChain
from ingestion.stellar.scan.find import Find, Finder
from ingestion.stellar.scan.grammar import load_grammar
from ingestion.stellar.scan.patterns import Patterns
from ingestion.stellar.scan.tokens import TokenPatterns, addresses_in, decode_event
from ingestion.stellar.scan.walk import DEPTH_MAX, Walker, read_count, refusal

FAST = (
    "Claimant", "ContractEvent", "DecoratedSignature", "DiagnosticEvent", "LedgerEntryChange", "LedgerKey", "Memo", "Operation",
    "OperationResult", "Preconditions", "SCVal", "TransactionEnvelope", "TransactionEvent", "TransactionResultPair",
)  # fmt: skip
"""Types that are tried by pattern: those of which a ledger holds hundreds."""
WALKED = (
    "ConfigSettingEntry", "ContractCodeEntry", "InvokeHostFunctionOp", "SCContractInstance", "SorobanTransactionData",
    "TransactionV0Envelope",
)  # fmt: skip
"""Types that are large or rare: a pattern that knew them would cost more than it saves."""
CLOSED = ("DiagnosticEvent",)
"""Types that hold nothing of a ledger's doing although they hold events or keys."""

UNBOUNDED = 0xFFFFFFFF
_UINT32 = struct.Struct(">I")
_HEADER = struct.Struct(">I32s32xQ")
_RESULT = struct.Struct(">32sqi")
_CONTRACT = 1
"""SC_ADDRESS_TYPE_CONTRACT."""
_TX_V0, _FEE_BUMP = 0, 5
"""ENVELOPE_TYPE_TX_V0 and ENVELOPE_TYPE_TX_FEE_BUMP."""
_REMOVED = b"\2"
"""Last byte of LEDGER_ENTRY_REMOVED."""

Span = tuple[int, int]
"""Where something begins and ends."""
_SUCCESS = frozenset((0, 1))
"""txSUCCESS and txFEE_BUMP_INNER_SUCCESS."""


@dataclass(slots=True)
class ScannedTransaction:
    """Where the parts of one transaction lie, and whom they name. Filled while its ledger is scanned, then only read."""

    begin: int = 0
    """Where its TransactionResultMeta begins."""
    end: int = 0
    """Where that ends."""
    hash: bytes = b""
    fee_charged: int = 0
    code: int = 0
    """TransactionResultCode."""
    result: Span = (0, 0)
    """Where its TransactionResultPair lies."""
    version: int = -1
    """Of its meta."""
    operations: int = 0
    """How many operations its meta tells of."""
    current: int = 0
    """While it is scanned: the operation whose events come next."""
    open: bool = False
    """While it is scanned: whether that operation's changes come next."""
    changes: list[tuple[int, int, int]] = field(default_factory=list)
    """Where each list of entry changes begins (at its count) and ends, and its operation from 1; 0 for the transaction's own."""
    events: list[tuple[int, int, int]] = field(default_factory=list)
    """Where each contract event begins and ends, and its operation from 1; 0 for the transaction's own."""
    keys: set[bytes] = field(default_factory=set)
    """The ed25519 keys of accounts that its entries and events name. Other bytes may be among them: these harm nobody."""
    contracts: set[bytes] = field(default_factory=set)
    """The ids of contracts that its events name as holders."""

    @property
    def succeeded(self) -> bool:
        """Whether its operations were applied."""
        return self.code in _SUCCESS


@dataclass(slots=True)
class ScannedLedger:
    """One ledger, walked to its end. Filled by `scan_ledger`, then only read."""

    data: bytes
    height: int = 0
    hash: bytes = b""
    parent_hash: bytes = b""
    close_time: int = 0
    """Seconds since 1970, UTC."""
    protocol: int = 0
    base_reserve: int = 0
    """Stroops per reserve, after this ledger's upgrades."""
    results_hash: bytes = b""
    """What the header says that the results hash to."""
    transactions: list[ScannedTransaction] = field(default_factory=list)
    """In the order in which they were applied."""
    envelopes: list[Span] = field(default_factory=list)
    """In the order of the transaction set, which is another."""
    senders: set[bytes] = field(default_factory=set)
    """The keys of the envelopes' sources, inner and outer."""
    upgrades: list[Span] = field(default_factory=list)
    """Lists of the changes that upgrades of the network made to entries, after all transactions."""
    upgraded: set[bytes] = field(default_factory=set)
    """The keys of accounts whose entries they changed."""
    after_all: bool = False
    """Whether each transaction's last list of changes was applied after all transactions (TransactionResultMetaV1)."""

    def account_keys(self) -> set[bytes]:
        """The keys of accounts that the ledger names, and of those that sent its transactions or paid for them."""
        return set().union(self.senders, self.upgraded, *(each.keys for each in self.transactions))

    def contract_ids(self) -> set[bytes]:
        """The ids of contracts that the ledger names as holders."""
        return set().union(*(each.contracts for each in self.transactions))


def scan_ledger(data: bytes) -> ScannedLedger:
    """Read one ledger. Raises UnreadableLedger, BrokenHashChain when the header's hash, or that of the results, is another."""
    ledger = ScannedLedger(data)
    end = scanner().find("LedgerCloseMeta")(data, 0, DEPTH_MAX, ledger)
    if end != len(data):
        raise refusal("LedgerCloseMeta", end, f"{len(data) - end} bytes follow its end")
    if _hash_results(ledger) != ledger.results_hash:
        raise BrokenHashChain(height=ledger.height, reason="the results are not those of the header")
    return ledger


@cache
def walker() -> Walker:
    """Skips types of the ledger's grammar. Built when first needed, which takes some tenths of a second."""
    return Walker(load_grammar(), patterns(), FAST)


@cache
def patterns() -> Patterns:
    """Byte patterns of the ledger's grammar."""
    return Patterns(load_grammar(), WALKED)


@cache
def token_patterns() -> TokenPatterns:
    """Reads token events."""
    return TokenPatterns(patterns())


@cache
def scanner() -> Finder[ScannedLedger]:
    """Reads ledgers."""
    return Finder(
        load_grammar(),
        walker(),
        readers={
            "LedgerHeaderHistoryEntry": _read_header,
            "TransactionEnvelope": _read_envelope,
            "TransactionResultPair": _read_result,
            "LedgerEntryChanges": _changes_reader(),
            "UpgradeEntryMeta": _upgrade_reader(),
            "ContractEvent": _event_reader(),
        },
        marks={
            "TransactionResultMeta": _begin_transaction,
            "TransactionResultMetaV1": _begin_transaction,
            "TransactionMeta": _begin_meta,
            "OperationMeta": _begin_operation,
            "OperationMetaV2": _begin_operation,
            "SorobanTransactionMeta": _begin_contract_events,
            "TransactionEvent": _begin_transaction_event,
        },
        ends={"TransactionResultMeta": _end_transaction, "TransactionResultMetaV1": _end_last_transaction},
        closed=CLOSED,
    )


def _read_header(data: bytes, at: int, depth: int, ledger: ScannedLedger) -> int:
    """LedgerHeaderHistoryEntry: the hash, the header, an extension. The hash is the header's, or the ledger is not read on."""
    end = walker().skip("LedgerHeaderHistoryEntry")(data, at, depth)
    begin = at + 32
    header_end = walker().skip("LedgerHeader")(data, begin, depth)
    ledger.hash = data[at:begin]
    # ledgerVersion, previousLedgerHash, scpValue{txSetHash, closeTime, ...}, txSetResultHash, bucketListHash, ledgerSeq, ...
    ledger.protocol, ledger.parent_hash, ledger.close_time = _HEADER.unpack_from(data, begin)
    results = walker().skip("StellarValue")(data, begin + 36, depth)
    ledger.results_hash = data[results : results + 32]
    (ledger.height,) = _UINT32.unpack_from(data, results + 64)
    # totalCoins, feePool, inflationSeq, idPool, baseFee stand between.
    (ledger.base_reserve,) = _UINT32.unpack_from(data, results + 100)
    if hashlib.sha256(data[begin:header_end]).digest() != ledger.hash:
        raise BrokenHashChain(height=ledger.height, reason="the hash is not the header's")
    return end


def _hash_results(ledger: ScannedLedger) -> bytes:
    """The hash of the TransactionResultSet that the ledger's results make: with it the header vouches for each transaction."""
    digest = hashlib.sha256(_UINT32.pack(len(ledger.transactions)))
    for scanned in ledger.transactions:
        begin, end = scanned.result
        digest.update(ledger.data[begin:end])
    return digest.digest()


def _read_envelope(data: bytes, at: int, depth: int, ledger: ScannedLedger) -> int:
    end = walker().skip("TransactionEnvelope")(data, at, depth)
    ledger.envelopes.append((at, end))
    ledger.senders.update(envelope_sources(data, at))
    return end


def envelope_sources(data: bytes, at: int) -> tuple[bytes, ...]:
    """The keys of an envelope's source and, for a fee bump, of the inner transaction's. Source: Stellar-transaction.x."""
    kind, at = data[at + 3], at + 4
    if kind == _TX_V0:
        return (data[at : at + 32],)
    key = at + (12 if data[at + 2] else 4)
    if kind != _FEE_BUMP:
        return (data[key : key + 32],)
    # feeSource, fee, the inner envelope's type, then the inner source.
    inner = key + 32 + 8 + 4
    inner_key = inner + (12 if data[inner + 2] else 4)
    return data[key : key + 32], data[inner_key : inner_key + 32]


def _begin_transaction(_: bytes, at: int, ledger: ScannedLedger) -> None:
    ledger.transactions.append(ScannedTransaction(begin=at))


def _end_transaction(_: bytes, at: int, ledger: ScannedLedger) -> None:
    ledger.transactions[-1].end = at


def _end_last_transaction(data: bytes, at: int, ledger: ScannedLedger) -> None:
    _end_transaction(data, at, ledger)
    ledger.after_all = True


def _read_result(data: bytes, at: int, depth: int, ledger: ScannedLedger) -> int:
    """TransactionResultPair: the hash, the fee, the code."""
    end = walker().skip("TransactionResultPair")(data, at, depth)
    scanned = ledger.transactions[-1]
    scanned.result = (at, end)
    scanned.hash, scanned.fee_charged, scanned.code = _RESULT.unpack_from(data, at)
    return end


def _begin_meta(data: bytes, at: int, ledger: ScannedLedger) -> None:
    try:
        (ledger.transactions[-1].version,) = _UINT32.unpack_from(data, at)
    except struct.error:
        raise refusal("TransactionMeta", at, "ends within a discriminant") from None


def _begin_operation(_: bytes, __: int, ledger: ScannedLedger) -> None:
    scanned = ledger.transactions[-1]
    scanned.operations += 1
    scanned.current, scanned.open = scanned.operations, True


def _begin_contract_events(_: bytes, __: int, ledger: ScannedLedger) -> None:
    """In meta V3 the events of a transaction's only operation stand apart from it."""
    ledger.transactions[-1].current = 1


def _begin_transaction_event(_: bytes, __: int, ledger: ScannedLedger) -> None:
    ledger.transactions[-1].current = 0


def _changes_reader() -> Find[ScannedLedger]:
    skip = walker().skip("LedgerEntryChange")

    def read(data: bytes, at: int, depth: int, ledger: ScannedLedger) -> int:
        count = read_count(data, at, UNBOUNDED, "LedgerEntryChanges")
        scanned = ledger.transactions[-1]
        add = scanned.keys.add
        begin, at = at, at + 4
        for _ in range(count):
            # As in _owner_key, written out: a ledger holds thousands.
            key = at + 12 if data[at + 3 : at + 4] == _REMOVED else at + 16
            add(data[key : key + 32])
            at = skip(data, at, depth)
        scanned.changes.append((begin, at, scanned.current if scanned.open else 0))
        scanned.open = False
        return at

    return read


def _upgrade_reader() -> Find[ScannedLedger]:
    """An upgrade may change entries: where the base reserve rises, offers are deleted and liabilities with them. Source:
    CAP-4."""
    skip_upgrade, skip = walker().skip("LedgerUpgrade"), walker().skip("LedgerEntryChange")

    def read(data: bytes, at: int, depth: int, ledger: ScannedLedger) -> int:
        begin = skip_upgrade(data, at, depth)
        count, at = read_count(data, begin, UNBOUNDED, "LedgerEntryChanges"), begin + 4
        for _ in range(count):
            ledger.upgraded.add(_owner_key(data, at))
            at = skip(data, at, depth)
        ledger.upgrades.append((begin, at))
        return at

    return read


def _owner_key(data: bytes, at: int) -> bytes:
    """The account's key in a change of account, trustline, offer and data entries; of others, 32 harmless bytes."""
    key = at + 12 if data[at + 3 : at + 4] == _REMOVED else at + 16
    return data[key : key + 32]


def _event_reader() -> Find[ScannedLedger]:
    skip, tokens = walker().skip("ContractEvent"), token_patterns()

    def read(data: bytes, at: int, depth: int, ledger: ScannedLedger) -> int:
        scanned = ledger.transactions[-1]
        found = tokens.find(data, at)
        if found is not None:
            named, end = addresses_in(found), found.end()
        else:
            end = skip(data, at, depth)
            event = decode_event(data[at:end]) if tokens.is_suspect(data, at) else None
            named = () if event is None else event.addresses
        for address in named:
            # Whatever kind of address it is, what identifies it comes last.
            (scanned.contracts if address[3] == _CONTRACT else scanned.keys).add(address[-32:])
        scanned.events.append((at, end, scanned.current))
        return end

    return read
