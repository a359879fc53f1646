"""A Stellar network through Stellar RPC (JSON-RPC), decoded with the SDK's XDR types.

Source: Stellar RPC v28 methods sendTransaction, getTransaction, getLedgerEntries, getLatestLedger, getFeeStats, getNetwork.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from typing import Any

from stellar_sdk import Asset, Keypair, xdr

from custody.chains.errors import RpcRefused, RpcUnreachable, RpcUnreadable, UnsupportedChain, WrongNetwork
from custody.chains.jsonrpc import JsonRpc, require_dict, require_int, require_list, require_str
from custody.chains.ports import ChainBalance, FeeQuote, Head, Submission, SubmissionStatus
from custody.chains.stellar import receivers, results, tokens
from custody.chains.stellar.lookup import AbsentTransaction, StellarTransaction, read_transaction
from custody.kernel.assetid import AssetId, ChainId

MEMO_REQUIRED = "config.memo_required"
"""The data entry by which an account asks for a memo. Source: SEP-29."""
MIN_FEE_STROOPS = 100
"""The protocol's least inclusion fee for one operation."""
_REFUSED_PARAMS = -32602
"""JSON-RPC "invalid params": the node could not even decode what was sent."""


class StellarRpc:
    """One Stellar network. A `ChainClient`."""

    def __init__(
        self,
        chain: ChainId,
        rpc: JsonRpc,
        network_passphrase: str,
        token_contracts: Collection[str] = (),
    ) -> None:
        """`network_passphrase` is compared with the node's by `verify_network`. `token_contracts`: the SEP-41 contracts that are
        believed."""
        self.token_contracts = frozenset(token_contracts)
        self._chain = chain
        self._rpc = rpc
        self._passphrase = network_passphrase

    @property
    def chain(self) -> ChainId:
        """The CAIP-2 id of the chain."""
        return self._chain

    async def submit(self, tx: bytes, tx_hash: str) -> Submission:
        """Hand a signed envelope to the node. `tx_hash` is the network's hash of it, lower-case hex.

        ERROR is the node's judgement and final for these bytes, with two exceptions. A sequence that is used already may be so
        because this very transaction was applied: UNKNOWN, and only our own ingestion answers it. What depends on how the ledger
        stands now (`results.MAY_PASS`) is TRY_LATER.
        """
        method = "sendTransaction"
        try:
            answer = require_dict(
                method, await self._rpc.call(method, {"transaction": base64.b64encode(tx).decode()})
            )
        except RpcRefused as error:
            if error.rpc_code == _REFUSED_PARAMS:
                return Submission(status=SubmissionStatus.REFUSED, code="invalid_xdr")
            return Submission(status=SubmissionStatus.UNKNOWN, code=error.code)
        except (RpcUnreachable, RpcUnreadable) as error:
            return Submission(status=SubmissionStatus.UNKNOWN, code=error.code)
        if answer.get("hash") not in (None, tx_hash):
            return Submission(status=SubmissionStatus.UNKNOWN, code="other_hash")
        return _submission(answer)

    async def next_sequence(self, account: str) -> int:
        """One more than the account's sequence number. Raises UnsupportedChain never, RpcUnreadable when it does not exist."""
        method = "getLedgerEntries"
        entry, _, _ = await self._entry(_account_key(account))
        if entry is None or entry.account is None:
            raise RpcUnreadable(method=method, account=account, reason="the account does not exist on chain")
        return entry.account.seq_num.sequence_number.int64 + 1

    async def mined_sequence(self, account: str) -> int:
        """The same: the network queues one transaction of an account at most, and counts none that is queued."""
        return await self.next_sequence(account)

    async def head(self) -> Head:
        """The newest closed ledger."""
        method = "getLatestLedger"
        answer = require_dict(method, await self._rpc.call(method, {}))
        return Head(
            height=require_int(method, answer.get("sequence")), hash=require_str(method, answer.get("id"))
        )

    async def balance(self, account: str, asset: AssetId, height: int | None) -> ChainBalance:
        """The account's holding of an asset.

        RPC keeps no history of entries, but tells when each was last changed: an entry unchanged since `height` had this balance
        at `height`, and the answer then says so. Otherwise it is true at the node's newest ledger, later than asked. A token of a
        contract is asked of the contract, and true at the newest ledger.
        """
        if asset.contract is not None:
            amount, newest = await tokens.balance(self._rpc, self._passphrase, asset.contract, account)
            return ChainBalance(amount=amount, height=newest)
        key = _account_key(account) if asset.is_native else _trustline_key(account, asset)
        entry, modified, latest = await self._entry(key)
        if entry is None:
            return ChainBalance(amount=0, height=latest)
        held = entry.account or entry.trust_line
        if held is None:
            raise RpcUnreadable(method="getLedgerEntries", reason="an entry of another type")
        at = height if height is not None and modified <= height <= latest else latest
        return ChainBalance(amount=held.balance.int64, height=at)

    async def token_decimals(self, contract: str) -> int | None:
        """What a token's contract says of its decimals; None when the node cannot run contracts. Raises InvalidAddress,
        TokenRefused."""
        return await tokens.decimals(self._rpc, self._passphrase, contract)

    async def requires_memo(self, account: str) -> bool:
        """Whether the account asks its senders for a memo, at the node's newest ledger. Source: SEP-29."""
        entry, _, _ = await self._entry(_data_key(account, MEMO_REQUIRED))
        return entry is not None and entry.data is not None and entry.data.data_value.data_value == b"1"

    async def receiver(self, account: str, asset: AssetId) -> receivers.Receiver:
        """How the account stands towards a payment of this asset, at the node's newest ledger: one question to the node."""
        method = "getLedgerEntries"
        keys = {"account": _account_key(account), "data": _data_key(account, MEMO_REQUIRED)}
        own_issue = asset.reference.partition(":")[2] == account
        if not asset.is_native and not own_issue:
            keys["line"] = _trustline_key(account, asset)
        names = {key.to_xdr(): name for name, key in keys.items()}
        answer = require_dict(method, await self._rpc.call(method, {"keys": list(names)}))
        height = require_int(method, answer.get("latestLedger"))
        found = {}
        for each in require_list(method, answer.get("entries") or []):
            row = require_dict(method, each)
            name = names.get(require_str(method, row.get("key")))
            if name is None:
                raise RpcUnreadable(method=method, reason="an entry that was not asked for")
            try:
                found[name] = xdr.LedgerEntryData.from_xdr(require_str(method, row.get("xdr")))
            except (ValueError, EOFError) as error:
                raise RpcUnreadable(method=method, reason="an entry that does not decode") from error
        return receivers.read_receiver(found, needs_line="line" in keys, height=height)

    async def fees(self) -> FeeQuote:
        """The 90th percentile of what classic transactions bid lately, at least the protocol's minimum."""
        method = "getFeeStats"
        answer = require_dict(method, await self._rpc.call(method, {}))
        stats = require_dict(method, answer.get("inclusionFee"))
        quoted = require_str(method, stats.get("p90"))
        if not quoted.isascii() or not quoted.isdigit():
            raise RpcUnreadable(method=method, reason="a fee that is no number")
        return FeeQuote(fee_stroops=max(MIN_FEE_STROOPS, int(quoted)))

    async def find_transaction(self, tx_hash: str) -> StellarTransaction | AbsentTransaction:
        """What the network says about a transaction. A node keeps the ledgers of some days; older ones are absent."""
        method = "getTransaction"
        answer = require_dict(method, await self._rpc.call(method, {"hash": tx_hash}))
        return read_transaction(answer, tx_hash, self._passphrase)

    async def verify_network(self) -> None:
        """Compare the node's passphrase with the configured one. Raises WrongNetwork."""
        method = "getNetwork"
        answer = require_dict(method, await self._rpc.call(method, {}))
        if answer.get("passphrase") != self._passphrase:
            raise WrongNetwork(chain=self._chain, node=str(answer.get("passphrase"))[:100])

    async def aclose(self) -> None:
        """Close the connections."""
        await self._rpc.aclose()

    async def _entry(self, key: xdr.LedgerKey) -> tuple[xdr.LedgerEntryData | None, int, int]:
        """The entry, the ledger that changed it last, and the node's newest ledger."""
        method = "getLedgerEntries"
        answer = require_dict(method, await self._rpc.call(method, {"keys": [key.to_xdr()]}))
        latest = require_int(method, answer.get("latestLedger"))
        entries = require_list(method, answer.get("entries") or [])
        if not entries:
            return None, 0, latest
        row = require_dict(method, entries[0])
        modified = require_int(method, row.get("lastModifiedLedgerSeq"))
        try:
            return xdr.LedgerEntryData.from_xdr(require_str(method, row.get("xdr"))), modified, latest
        except (ValueError, EOFError) as error:
            raise RpcUnreadable(method=method, reason="an entry that does not decode") from error


def _submission(answer: dict[str, Any]) -> Submission:
    match answer.get("status"):
        case "PENDING" | "DUPLICATE":
            return Submission(status=SubmissionStatus.ACCEPTED)
        case "TRY_AGAIN_LATER":
            return Submission(status=SubmissionStatus.TRY_LATER)
        case "ERROR":
            code = results.read_result(answer.get("errorResultXdr"))
            if code in results.PROVES_NOTHING:
                return Submission(status=SubmissionStatus.UNKNOWN, code=code)
            if code in results.MAY_PASS:
                return Submission(status=SubmissionStatus.TRY_LATER, code=code)
            return Submission(status=SubmissionStatus.REFUSED, code=code)
        case _:
            return Submission(status=SubmissionStatus.UNKNOWN, code="unknown_status")


def _account_key(account: str) -> xdr.LedgerKey:
    return xdr.LedgerKey(
        type=xdr.LedgerEntryType.ACCOUNT,
        account=xdr.LedgerKeyAccount(account_id=Keypair.from_public_key(account).xdr_account_id()),
    )


def _data_key(account: str, name: str) -> xdr.LedgerKey:
    return xdr.LedgerKey(
        type=xdr.LedgerEntryType.DATA,
        data=xdr.LedgerKeyData(
            account_id=Keypair.from_public_key(account).xdr_account_id(),
            data_name=xdr.String64(name.encode()),
        ),
    )


def _trustline_key(account: str, asset: AssetId) -> xdr.LedgerKey:
    code, _, issuer = asset.reference.partition(":")
    if not issuer:
        raise UnsupportedChain(asset=asset.text)
    return xdr.LedgerKey(
        type=xdr.LedgerEntryType.TRUSTLINE,
        trust_line=xdr.LedgerKeyTrustLine(
            account_id=Keypair.from_public_key(account).xdr_account_id(),
            asset=Asset(code, issuer).to_trust_line_asset_xdr_object(),
        ),
    )
