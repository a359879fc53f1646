"""Stellar's own account of who moved what: token events, believed or not. Pure.

An event is believed only when the contract that emitted it is the asset's own contract on this network: anybody can write
"USDC:GA5Z…" into a topic. Other contracts are believed about their own token when they are on the list of tokens that we take.
Source: CAP-67; SEP-11 (asset names); SEP-41 0.5 (data may be an i128 or a map).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from stellar_sdk import Asset, StrKey

from custody.chains.stellar.memo import words_of
from ingestion.stellar.holders import NATIVE, address_name, contract_name, issuer_of
from ingestion.stellar.scan.ledger import ScannedLedger, ScannedTransaction, token_patterns
from ingestion.stellar.scan.tokens import RawEvent, decode_event, read_event

UNIFIED = 4
"""From this version of TransactionMeta on, core itself tells of every movement (CAP-67)."""
_ASSET_NAME = re.compile(r"native|[a-zA-Z0-9]{1,12}:G[A-Z2-7]{55}")
_HOLDERS = {"transfer": (2,), "mint": (1,), "burn": (1,), "clawback": (1,), "fee": (1,)}
"""Event name to the number of addresses among its topics."""
_HOLDERS_BEFORE = {"transfer": (2,), "mint": (2,), "burn": (1,), "clawback": (2,)}
"""The same before CAP-67: the admin came first where it acted."""
_HOLDERS_OF_TOKENS = {"transfer": (2,), "mint": (1, 2), "burn": (1,), "clawback": (1, 2)}
"""The same in SEP-41 tokens, which are of either age."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """One believed event of a listed kind."""

    op_index: int | None
    """Operation that caused it, from 1; None for fees."""
    position: int
    """Place among the operation's events of these kinds, from 0, believed or not: the same whether told or derived."""
    kind: str
    """`transfer`, `mint`, `burn`, `clawback` or `fee`."""
    contract: str
    """C… id of the asset's contract."""
    asset: str
    """`native` or `CODE:ISSUER`; for a token of a contract, the contract."""
    source: str
    """Holder it left (G, C, B or L address); empty for a mint."""
    destination: str
    """Holder it reached; empty for burn, clawback and fee."""
    amount: int
    """Stroops; negative for a refund of fees."""
    tag: int | None
    """Muxed id, or the transaction's id memo when the destination was not muxed."""
    memo: str
    """Words of the transaction's memo when it is no number (`chains.stellar.memo`); else empty."""


class EventReader:
    """Reads events of one network; keeps the contract ids of assets it has met, a bounded number of them."""

    def __init__(self, network_passphrase: str, tokens: Collection[str] = ()) -> None:
        """Contract ids depend on the network, so the passphrase is part of the belief. `tokens`: C… ids of SEP-41 contracts."""
        self.network_passphrase = network_passphrase
        self._tokens = frozenset(tokens)

        @lru_cache(maxsize=8192)
        def contract_of(asset: str) -> str:
            code, _, issuer = asset.partition(":")
            known = Asset.native() if asset == NATIVE else Asset(code, issuer)
            return known.contract_id(network_passphrase)

        self.contract_of = contract_of

    def read(self, ledger: ScannedLedger, scanned: ScannedTransaction) -> list[TokenEvent]:
        """What core told of one transaction with meta V4: fees first, then the operations' events in apply order.

        A transaction that failed moved nothing but its fee, whatever else its meta says.
        """
        fees: list[TokenEvent] = []
        moved: list[TokenEvent] = []
        for op_index, position, raw in raw_events(ledger, scanned):
            if op_index and not scanned.succeeded:
                continue
            event = self._believed(raw, op_index, position, _HOLDERS)
            if event is not None:
                (moved if op_index else fees).append(event)
        return fees + moved

    def read_contracts(self, ledger: ScannedLedger, scanned: ScannedTransaction) -> list[TokenEvent]:
        """What contracts told in a transaction with meta V3, by today's rules: moves from and to the issuer mint and burn."""
        found = [
            self._believed(raw, op_index, position, _HOLDERS_BEFORE)
            for op_index, position, raw in raw_events(ledger, scanned)
        ]
        return [event for event in found if event is not None]

    def _believed(
        self, raw: RawEvent, op_index: int, position: int, holders: Mapping[str, tuple[int, ...]]
    ) -> TokenEvent | None:
        kind, contract = raw.kind.decode(), contract_name(raw.contract)
        # A fee names no asset: it is always the native one, and only a transaction pays it, no operation.
        asset = NATIVE if kind == "fee" else _asset_in(raw.asset)
        if (kind == "fee") != (op_index == 0):
            return None
        if asset is None or self.contract_of(asset) != contract:
            if contract not in self._tokens or kind == "fee":
                return None
            asset, holders = contract, _HOLDERS_OF_TOKENS
        names = [address_name(each) for each in raw.addresses]
        if len(names) not in holders.get(kind, ()) or not all(names):
            return None
        source, destination = _direction(kind, names, asset)
        arrives = bool(destination)
        tag, memo = _tag_and_memo(raw.muxed) if arrives else (None, "")
        return TokenEvent(
            op_index=op_index or None,
            position=position,
            kind=_kind(kind, source, destination),
            contract=contract,
            asset=asset,
            source=source,
            destination=destination,
            amount=raw.amount,
            tag=tag,
            memo=memo,
        )


def raw_events(ledger: ScannedLedger, scanned: ScannedTransaction) -> Iterator[tuple[int, int, RawEvent]]:
    """Operation (0 for the transaction's own), place among its token events, and the event."""
    tokens = token_patterns()
    current, position = -1, 0
    for at, end, op_index in scanned.events:
        found = tokens.find(ledger.data, at)
        if found is not None:
            raw: RawEvent | None = read_event(found)
        elif tokens.is_suspect(ledger.data, at):
            raw = decode_event(ledger.data[at:end])
        else:
            continue
        current, position = op_index, position + 1 if op_index == current else 0
        if raw is not None:
            yield op_index, position, raw


def sum_events(events: Iterable[TokenEvent]) -> dict[tuple[str, str], int]:
    """What each holder gained by the events, per asset, as far as entries of known form show it.

    Tokens that a contract keeps in its own way are left out; and issuers, who hold none of their own asset.
    """
    sums: dict[tuple[str, str], int] = {}
    for event in events:
        issuer = issuer_of(event.asset)
        if not issuer and event.asset != NATIVE:
            continue
        for holder, change in ((event.source, -event.amount), (event.destination, event.amount)):
            if holder and holder != issuer:
                key = (holder, event.asset)
                sums[key] = sums.get(key, 0) + change
    return {key: change for key, change in sums.items() if change}


def movement_kind(asset: str, source: str, destination: str) -> str:
    """What a move between two holders is called. Between an issuer and itself it is a transfer. Source: CAP-67."""
    issuer = issuer_of(asset)
    if not issuer or (source == issuer) == (destination == issuer):
        return "transfer"
    return "mint" if source == issuer else "burn"


def _direction(kind: str, names: list[str], asset: str) -> tuple[str, str]:
    """Source and destination. An admin before them is no part of the move."""
    if kind == "transfer":
        source, destination = names
        named = movement_kind(asset, source, destination)
        return "" if named == "mint" else source, "" if named == "burn" else destination
    return ("", names[-1]) if kind == "mint" else (names[-1], "")


def _kind(kind: str, source: str, destination: str) -> str:
    """A transfer from or to the issuer is what core calls mint or burn since CAP-67."""
    if kind == "transfer" and not (source and destination):
        return "burn" if source else "mint"
    return kind


@lru_cache(maxsize=1 << 14)
def _asset_in(topic: bytes | None) -> str | None:
    """The SEP-11 name in a topic, or None when it is none."""
    text = (topic or b"").decode("ascii", "replace")
    if not _ASSET_NAME.fullmatch(text):
        return None
    issuer = issuer_of(text)
    return text if not issuer or StrKey.is_valid_ed25519_public_key(issuer) else None


def _tag_and_memo(muxed: tuple[str, bytes] | None) -> tuple[int | None, str]:
    if muxed is None:
        return None, ""
    kind, content = muxed
    if kind == "u64":
        return int.from_bytes(content, "big"), ""
    return None, words_of("hash" if kind == "bytes" else "text", content)
