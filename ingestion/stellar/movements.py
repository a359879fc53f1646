"""Stellar's own account of who moved what: CAP-67 events, and the entry changes that must agree with them. Pure.

Events come from stellar-core (TransactionMeta V4). A token event is believed only when the contract that emitted it is the
asset's own contract on this network: anybody can write "USDC:GA5Z…" into a topic.
Source: CAP-67; SEP-11 (asset names); SEP-41 0.5 (data may be an i128 or a map).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from stellar_sdk import Asset, StrKey, xdr

NATIVE = "native"
_ASSET_NAME = re.compile(r"native|[a-zA-Z0-9]{1,12}:G[A-Z2-7]{55}")
_KINDS = {"transfer": 2, "mint": 1, "burn": 1, "clawback": 1, "fee": 1}
"""Event name to the number of holders among its topics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEvent:
    """One believed event of a listed kind."""

    op_index: int | None
    """Operation that caused it, from 1; None for fees."""
    position: int
    """Place among the operation's contract events, from 0, believed or not."""
    kind: str
    """`transfer`, `mint`, `burn`, `clawback` or `fee`."""
    contract: str
    """C… id of the asset's contract."""
    asset: str
    """`native` or `CODE:ISSUER`."""
    source: str
    """Holder it left (G, C, B or L address); empty for a mint."""
    destination: str
    """Holder it reached; empty for burn, clawback and fee."""
    amount: int
    """Stroops; negative for a refund of fees."""
    tag: int | None
    """Muxed id, or the transaction's id memo when the destination was not muxed."""
    memo: str
    """`text:…` or `hash:…` when the transaction's memo is of that kind; else empty."""


class EventReader:
    """Reads events of one network; keeps the contract ids of assets it has met, a bounded number of them."""

    def __init__(self, network_passphrase: str) -> None:
        """Contract ids depend on the network, so the passphrase is part of the belief."""

        @lru_cache(maxsize=8192)
        def contract_of(asset: str) -> str:
            return _sdk_asset(asset).contract_id(network_passphrase)

        self._contract_of = contract_of

    def read(self, meta: xdr.TransactionMetaV4) -> list[TokenEvent]:
        """Fees first, then the operations' events in apply order, then nothing else: what the expected order of CAP-67 is."""
        found = [
            event
            for position, each in enumerate(meta.events)
            if (event := self._event(each.event, None, position)) is not None and event.kind == "fee"
        ]
        for index, operation in enumerate(meta.operations, start=1):
            for position, each in enumerate(operation.events):
                event = self._event(each, index, position)
                if event is not None and event.kind != "fee":
                    found.append(event)
        return found

    def _event(self, event: xdr.ContractEvent, op_index: int | None, position: int) -> TokenEvent | None:
        body = event.body.v0
        if event.type != xdr.ContractEventType.CONTRACT or event.contract_id is None or body is None:
            return None
        topics = body.topics
        kind = _symbol(topics[0]) if topics else None
        holders = _KINDS.get(kind) if kind is not None else None
        if kind is None or holders is None:
            return None
        contract = StrKey.encode_contract(event.contract_id.contract_id.hash)
        # A fee names no asset: it is always the native one, and must come from the native contract.
        asset = NATIVE if kind == "fee" else _asset_name(topics[-1])
        expected = 1 + holders + (0 if kind == "fee" else 1)
        if asset is None or len(topics) != expected or self._contract_of(asset) != contract:
            return None
        addresses = [_holder(topic) for topic in topics[1 : 1 + holders]]
        value = _data(body.data)
        if value is None or not all(addresses):
            return None
        amount, tag, memo = value
        arrives = kind in ("transfer", "mint")
        return TokenEvent(
            op_index=op_index,
            position=position,
            kind=kind,
            contract=contract,
            asset=asset,
            source="" if kind == "mint" else addresses[0],
            destination=addresses[-1] if arrives else "",
            amount=amount,
            tag=tag if arrives else None,
            memo=memo if arrives else "",
        )


def sum_events(events: Iterable[TokenEvent]) -> dict[tuple[str, str], int]:
    """What each holder gained by the events, per asset. Contracts are left out, and issuers, who hold none of their own asset."""
    sums: dict[tuple[str, str], int] = {}
    for event in events:
        issuer = event.asset.partition(":")[2]
        for holder, change in ((event.source, -event.amount), (event.destination, event.amount)):
            if holder and holder != issuer and not holder.startswith("C"):
                key = (holder, event.asset)
                sums[key] = sums.get(key, 0) + change
    return {key: change for key, change in sums.items() if change}


def sum_changes(changes: Iterable[xdr.LedgerEntryChanges]) -> dict[tuple[str, str], int]:
    """What each holder's entries changed by, per asset, over all the change lists of one transaction in their order."""
    sums: dict[tuple[str, str], int] = {}
    before: dict[bytes, dict[tuple[str, str], int]] = {}
    for group in changes:
        for change in group.ledger_entry_changes:
            if change.removed is not None:
                _add(sums, before.pop(_key_of(change.removed), {}), -1)
                continue
            entry = change.state or change.created or change.updated or change.restored
            held = _holdings(entry) if entry is not None else None
            if entry is None or held is None:
                continue
            key, amounts = held
            if change.state is None:
                _add(sums, before.get(key, {}), -1)
                _add(sums, amounts, 1)
            before[key] = amounts
    return {key: change for key, change in sums.items() if change}


def _add(sums: dict[tuple[str, str], int], amounts: dict[tuple[str, str], int], sign: int) -> None:
    for key, amount in amounts.items():
        sums[key] = sums.get(key, 0) + sign * amount


def _holdings(entry: xdr.LedgerEntry) -> tuple[bytes, dict[tuple[str, str], int]] | None:
    """The entry's identity and what it holds, or None for entries that hold no classic money."""
    data = entry.data
    if data.account is not None:
        account = _account(data.account.account_id)
        return b"a" + account.encode(), {(account, NATIVE): data.account.balance.int64}
    if data.trust_line is not None:
        line = data.trust_line
        if line.asset.type == xdr.AssetType.ASSET_TYPE_POOL_SHARE:
            return None
        key = (_account(line.account_id), _asset_text(line.asset))
        return b"t" + "/".join(key).encode(), {key: line.balance.int64}
    if data.claimable_balance is not None:
        claimable = data.claimable_balance
        identity = claimable.balance_id.to_xdr_bytes()
        holder = (_claimable(claimable.balance_id), _asset_text(claimable.asset))
        return b"b" + identity, {holder: claimable.amount.int64}
    if data.liquidity_pool is not None and data.liquidity_pool.body.constant_product is not None:
        pool = data.liquidity_pool.body.constant_product
        pool_id = data.liquidity_pool.liquidity_pool_id.pool_id.hash
        address = StrKey.encode_liquidity_pool(pool_id)
        return b"l" + pool_id, {
            (address, _asset_text(pool.params.asset_a)): pool.reserve_a.int64,
            (address, _asset_text(pool.params.asset_b)): pool.reserve_b.int64,
        }
    return None


def _key_of(key: xdr.LedgerKey) -> bytes:
    """The identity that `_holdings` gives to the entry under this key; of no entry when it holds no classic money."""
    if key.account is not None:
        return b"a" + _account(key.account.account_id).encode()
    if key.trust_line is not None and key.trust_line.asset.type != xdr.AssetType.ASSET_TYPE_POOL_SHARE:
        line = key.trust_line
        return b"t" + f"{_account(line.account_id)}/{_asset_text(line.asset)}".encode()
    if key.claimable_balance is not None:
        return b"b" + key.claimable_balance.balance_id.to_xdr_bytes()
    if key.liquidity_pool is not None:
        return b"l" + key.liquidity_pool.liquidity_pool_id.pool_id.hash
    return b""


def _asset_text(asset: xdr.Asset | xdr.TrustLineAsset) -> str:
    alpha = asset.alpha_num4 or asset.alpha_num12
    if alpha is None:
        return NATIVE
    code = alpha.asset_code
    raw = code.asset_code4 if isinstance(code, xdr.AssetCode4) else code.asset_code12
    return f"{raw.rstrip(bytes(1)).decode('ascii', 'backslashreplace')}:{_account(alpha.issuer)}"


def _account(account_id: xdr.AccountID) -> str:
    key = account_id.account_id.ed25519
    return StrKey.encode_ed25519_public_key(key.uint256) if key is not None else ""


def _claimable(balance_id: xdr.ClaimableBalanceID) -> str:
    # SEP-23 names a claimable balance by its type byte (V0 = 0) and its hash.
    return StrKey.encode_claimable_balance(b"\x00" + (balance_id.v0.hash if balance_id.v0 else b""))


def _symbol(value: xdr.SCVal) -> str | None:
    return value.sym.sc_symbol.decode("ascii", "replace") if value.sym is not None else None


def _asset_name(value: xdr.SCVal) -> str | None:
    """The SEP-11 name in a topic, or None when it is none."""
    if value.str is None:
        return None
    text = value.str.sc_string.decode("ascii", "replace")
    if not _ASSET_NAME.fullmatch(text):
        return None
    issuer = text.partition(":")[2]
    return text if not issuer or StrKey.is_valid_ed25519_public_key(issuer) else None


def _holder(value: xdr.SCVal) -> str:
    """The address in a topic, or empty when it is none that CAP-67 allows (muxed addresses never appear there)."""
    address = value.address
    if address is None:
        return ""
    if address.account_id is not None:
        return _account(address.account_id)
    if address.contract_id is not None:
        return StrKey.encode_contract(address.contract_id.contract_id.hash)
    if address.claimable_balance_id is not None:
        return _claimable(address.claimable_balance_id)
    if address.liquidity_pool_id is not None:
        return StrKey.encode_liquidity_pool(address.liquidity_pool_id.pool_id.hash)
    return ""


def _data(value: xdr.SCVal) -> tuple[int, int | None, str] | None:
    """Amount, tag and memo of an event's data: an i128, or a map with `amount` and perhaps `to_muxed_id`."""
    if value.map is None:
        amount = _i128(value)
        return None if amount is None else (amount, None, "")
    fields = {_symbol(item.key): item.val for item in value.map.sc_map}
    amount = _i128(fields["amount"]) if "amount" in fields else None
    if amount is None:
        return None
    named = fields.get("to_muxed_id")
    if named is None:
        return amount, None, ""
    if named.u64 is not None:
        return amount, named.u64.uint64, ""
    if named.str is not None:
        # Senders choose these bytes. A NUL, which no database column holds, is written like a byte that is not UTF-8.
        text = named.str.sc_string.decode("utf-8", "backslashreplace").replace("\x00", r"\x00")
        return amount, None, f"text:{text}"
    if named.bytes is not None:
        return amount, None, "hash:" + named.bytes.sc_bytes.hex()
    return amount, None, ""


def _i128(value: xdr.SCVal) -> int | None:
    parts = value.i128
    return None if parts is None else (parts.hi.int64 << 64) | parts.lo.uint64


def _sdk_asset(asset: str) -> Asset:
    code, _, issuer = asset.partition(":")
    return Asset.native() if asset == NATIVE else Asset(code, issuer)
