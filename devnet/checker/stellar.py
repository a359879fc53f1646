"""A Stellar network as its RPC tells it: every transaction with envelope, result and meta, decoded in full by the SDK."""

from __future__ import annotations

from typing import Any

import httpx
from stellar_sdk import (
    Asset,
    CreateAccount,
    CreateClaimableBalance,
    FeeBumpTransactionEnvelope,
    HashMemo,
    IdMemo,
    Keypair,
    Memo,
    MuxedAccount,
    TextMemo,
    TransactionEnvelope,
    parse_transaction_envelope_from_xdr,
    xdr,
)
from stellar_sdk import (
    Payment as PaymentOperation,
)

from devnet.checker.model import Chain, Payment

UNITS = 10**7


def read_stellar(
    url: str, name: str, passphrase: str, accounts: frozenset[str], assets: frozenset[str]
) -> Chain:
    """Everything up to the newest ledger. `assets`: those of this chain, as the API names them."""
    payments: list[Payment] = []
    sent: dict[str, bool] = {}
    fees = 0
    with httpx.Client(timeout=60, trust_env=False) as http:
        height = 0
        for row in _transactions(http, url):
            height = max(height, int(row["ledger"]))
            envelope = parse_transaction_envelope_from_xdr(row["envelopeXdr"], passphrase)
            succeeded = row["status"] == "SUCCESS"
            inner = _inner(envelope)
            payer = _payer(envelope)
            involved = {payer, _account(inner.transaction.source)} | {
                _account(each.source) for each in inner.transaction.operations if each.source is not None
            }
            if involved & accounts:
                sent[row["txHash"]] = succeeded
                sent[inner.hash_hex()] = succeeded
            if payer in accounts:
                fees += xdr.TransactionResult.from_xdr(row["resultXdr"]).fee_charged.int64
            if succeeded:
                payments += _payments(name, inner, accounts)
        balances = _balances(http, url, name, accounts, assets)
    return Chain(name=name, height=height, payments=tuple(payments), ours=sent, fees=fees, balances=balances)


def tag_of(memo: Memo) -> str:
    """A memo in words that can be compared; empty where it names nobody."""
    match memo:
        case IdMemo():
            return f"id:{memo.memo_id}"
        case TextMemo():
            return f"text:{memo.memo_text.decode(errors='replace')}"
        case HashMemo():
            return f"hash:{memo.memo_hash.hex()}"
        case _:
            return ""


def split(address: str) -> tuple[str, str]:
    """Account and tag of a G or M address."""
    muxed = MuxedAccount.from_account(address)
    return muxed.account_id, "" if muxed.account_muxed_id is None else f"id:{muxed.account_muxed_id}"


def _payments(name: str, inner: TransactionEnvelope, accounts: frozenset[str]) -> list[Payment]:
    found = []
    memo = tag_of(inner.transaction.memo)
    for operation in inner.transaction.operations:
        source = _account(operation.source or inner.transaction.source)
        match operation:
            case PaymentOperation():
                destination, amount = operation.destination, operation.amount
                asset = _asset(name, operation.asset)
            case CreateAccount():
                destination, amount = (
                    MuxedAccount.from_account(operation.destination),
                    operation.starting_balance,
                )
                asset = f"{name}/native"
            case CreateClaimableBalance(claimants=[only]):
                # Whoever may claim it, alone, is who was paid.
                destination, amount = MuxedAccount.from_account(only.destination), operation.amount
                asset = _asset(name, operation.asset)
            case _:
                continue
        account = _account(destination)
        if not {source, account} & accounts:
            continue
        tag = memo if destination.account_muxed_id is None else f"id:{destination.account_muxed_id}"
        found.append(
            Payment(
                tx_hash=inner.hash_hex(),
                asset=asset,
                source=source,
                destination=account,
                amount=_units(amount),
                tag=tag,
            )
        )
    return found


def _balances(
    http: httpx.Client, url: str, name: str, accounts: frozenset[str], assets: frozenset[str]
) -> dict[tuple[str, str], int]:
    found = {}
    for account in accounts:
        owner = Keypair.from_public_key(account).xdr_account_id()
        key = xdr.LedgerKey(xdr.LedgerEntryType.ACCOUNT, account=xdr.LedgerKeyAccount(owner))
        entry = _entry(http, url, key)
        found[account, f"{name}/native"] = (
            0 if entry is None or entry.account is None else entry.account.balance.int64
        )
        for asset in assets - {f"{name}/native"}:
            code, _, issuer = asset.partition("/")[2].partition(":")
            line = xdr.LedgerKeyTrustLine(owner, Asset(code, issuer).to_trust_line_asset_xdr_object())
            entry = _entry(http, url, xdr.LedgerKey(xdr.LedgerEntryType.TRUSTLINE, trust_line=line))
            held = None if entry is None else entry.trust_line
            found[account, asset] = 0 if held is None else held.balance.int64
    return found


def _entry(http: httpx.Client, url: str, key: xdr.LedgerKey) -> xdr.LedgerEntryData | None:
    entries = _call(http, url, "getLedgerEntries", {"keys": [key.to_xdr()]})["entries"]
    return xdr.LedgerEntryData.from_xdr(entries[0]["xdr"]) if entries else None


def _transactions(http: httpx.Client, url: str) -> list[Any]:
    """All that the node has, page by page."""
    oldest = _call(http, url, "getHealth", {})["oldestLedger"]
    rows: list[Any] = []
    asked: dict[str, Any] = {"startLedger": oldest, "pagination": {"limit": 200}}
    while True:
        page = _call(http, url, "getTransactions", asked)
        rows += page["transactions"]
        if len(page["transactions"]) < 200:
            return rows
        asked = {"pagination": {"limit": 200, "cursor": page["cursor"]}}


def _call(http: httpx.Client, url: str, method: str, params: dict[str, Any]) -> Any:
    asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = http.post(url, json=asked).raise_for_status().json()
    if "error" in answer:
        raise ValueError(f"{method}: {answer['error']}")
    return answer["result"]


def _inner(envelope: TransactionEnvelope | FeeBumpTransactionEnvelope) -> TransactionEnvelope:
    if isinstance(envelope, FeeBumpTransactionEnvelope):
        return envelope.transaction.inner_transaction_envelope
    return envelope


def _payer(envelope: TransactionEnvelope | FeeBumpTransactionEnvelope) -> str:
    if isinstance(envelope, FeeBumpTransactionEnvelope):
        return _account(envelope.transaction.fee_source)
    return _account(envelope.transaction.source)


def _account(address: MuxedAccount) -> str:
    return address.account_id


def _asset(name: str, asset: Asset) -> str:
    return f"{name}/native" if asset.is_native() else f"{name}/{asset.code}:{asset.issuer}"


def _units(text: str) -> int:
    """The SDK's decimal text as atomic units."""
    whole, _, part = text.partition(".")
    return int(whole) * UNITS + int(part.ljust(7, "0") or "0")
