"""A local Stellar network with a few people, and ledgers that it could not close: older meta, and what it does not apply."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence

from stellar_sdk import (
    Account,
    CreateAccount,
    FeeBumpTransactionEnvelope,
    Keypair,
    Memo,
    NoneMemo,
    Operation,
    TransactionBuilder,
    TransactionEnvelope,
    xdr,
)

from custody.kernel.assetid import ChainId
from devnet.stellar.network import LocalNetwork
from ingestion.model import BlockFacts
from ingestion.stellar.movements import EventReader
from ingestion.stellar.normalize import named_holders, normalize
from ingestion.stellar.scan.ledger import scan_ledger

CHAIN = ChainId("stellar:devnet")


class Town:
    """A local network, its accounts' sequence numbers, and our view of each closed ledger."""

    def __init__(self) -> None:
        self.network = LocalNetwork()
        self.root = self.network.root
        self.reader = EventReader(self.network.passphrase)

    def sequence(self, keypair: Keypair) -> int:
        key = xdr.LedgerKey(
            xdr.LedgerEntryType.ACCOUNT, account=xdr.LedgerKeyAccount(keypair.xdr_account_id())
        )
        entry = self.network.entry(key)
        assert entry is not None
        assert entry.data.account is not None
        return entry.data.account.seq_num.sequence_number.int64

    def sign(
        self, source: Keypair, operations: Sequence[Operation], memo: Memo | None = None
    ) -> TransactionEnvelope:
        account = Account(source.public_key, self.sequence(source))
        builder = TransactionBuilder(account, self.network.passphrase, base_fee=100)
        builder.add_memo(memo or NoneMemo()).set_timeout(300)
        for operation in operations:
            builder.append_operation(operation)
        envelope = builder.build()
        envelope.sign(source)
        return envelope

    def close(self, *envelopes: TransactionEnvelope | FeeBumpTransactionEnvelope) -> xdr.LedgerCloseMeta:
        for envelope in envelopes:
            assert self.network.submit(envelope.to_xdr())["status"] == "PENDING"
        return self.network.close()

    def facts(self, meta: xdr.LedgerCloseMeta) -> BlockFacts:
        """What the ledger says of everybody whom it names."""
        ledger = scan_ledger(meta.to_xdr_bytes())
        return normalize(ledger, CHAIN, self.reader, named_holders(ledger))

    def settle(self, name: str) -> Keypair:
        """A funded account that follows from its name."""
        keypair = Keypair.from_raw_ed25519_seed(name.encode().ljust(32, b"."))
        self.close(self.sign(self.root, [CreateAccount(keypair.public_key, "1000")]))
        return keypair


def before_cap_67(meta: xdr.LedgerCloseMeta, version: int = 2) -> xdr.LedgerCloseMeta:
    """The same ledger as an older core would have told it: without events, in meta V2 or V3."""
    older = copy.deepcopy(meta)
    body = older.v2 or older.v1
    assert body is not None
    for processed in body.tx_processing:
        told = processed.tx_apply_processing.v4
        assert told is not None
        operations = [xdr.OperationMeta(each.changes) for each in told.operations]
        before, after = told.tx_changes_before, told.tx_changes_after
        processed.tx_apply_processing = (
            xdr.TransactionMeta(2, v2=xdr.TransactionMetaV2(before, operations, after))
            if version == 2
            else xdr.TransactionMeta(
                3, v3=xdr.TransactionMetaV3(xdr.ExtensionPoint(0), before, operations, after, None)
            )
        )
    return older


def forge(
    town: Town,
    envelope: TransactionEnvelope,
    results: Sequence[xdr.OperationResultTr],
    changes: Sequence[Sequence[xdr.LedgerEntryChange]],
) -> xdr.LedgerCloseMeta:
    """A ledger of meta V2 with one transaction that succeeded and paid nothing: what the local network does not apply."""
    meta = town.close()
    assert meta.v2 is not None
    outcome = xdr.TransactionResultResult(
        xdr.TransactionResultCode.txSUCCESS,
        results=[xdr.OperationResult(xdr.OperationResultCode.opINNER, each) for each in results],
    )
    pair = xdr.TransactionResultPair(
        xdr.Hash(envelope.hash()), xdr.TransactionResult(xdr.Int64(0), outcome, xdr.TransactionResultExt(0))
    )
    nothing = xdr.LedgerEntryChanges([])
    operations = [xdr.OperationMeta(xdr.LedgerEntryChanges(list(each))) for each in changes]
    meta.v2.tx_processing.append(
        xdr.TransactionResultMetaV1(
            xdr.ExtensionPoint(0),
            pair,
            nothing,
            xdr.TransactionMeta(2, v2=xdr.TransactionMetaV2(nothing, operations, nothing)),
            nothing,
        )
    )
    assert meta.v2.tx_set.v1_tx_set is not None
    batch = xdr.TxSetComponentTxsMaybeDiscountedFee(None, [envelope.to_xdr_object()])
    kind = xdr.TxSetComponentType.TXSET_COMP_TXS_MAYBE_DISCOUNTED_FEE
    meta.v2.tx_set.v1_tx_set.phases[0].v0_components = [
        xdr.TxSetComponent(kind, txs_maybe_discounted_fee=batch)
    ]
    seal(meta)
    return meta


def seal(meta: xdr.LedgerCloseMeta) -> None:
    """Let the header vouch for the results as they are now."""
    assert meta.v2 is not None
    entry = meta.v2.ledger_header
    results = xdr.TransactionResultSet([each.result for each in meta.v2.tx_processing])
    entry.header.tx_set_result_hash = xdr.Hash(hashlib.sha256(results.to_xdr_bytes()).digest())
    entry.hash = xdr.Hash(hashlib.sha256(entry.header.to_xdr_bytes()).digest())


def changed(before: xdr.LedgerEntryData, after: xdr.LedgerEntryData | None) -> list[xdr.LedgerEntryChange]:
    """An entry that was there and is updated, or removed."""
    kind = xdr.LedgerEntryChangeType
    shown = [xdr.LedgerEntryChange(kind.LEDGER_ENTRY_STATE, state=_entry(before))]
    if after is not None:
        return [*shown, xdr.LedgerEntryChange(kind.LEDGER_ENTRY_UPDATED, updated=_entry(after))]
    return [*shown, xdr.LedgerEntryChange(kind.LEDGER_ENTRY_REMOVED, removed=_key(before))]


def created(entry: xdr.LedgerEntryData) -> list[xdr.LedgerEntryChange]:
    """An entry that was not there."""
    return [
        xdr.LedgerEntryChange(xdr.LedgerEntryChangeType.LEDGER_ENTRY_CREATED, created=_entry(entry)),
    ]


def _entry(data: xdr.LedgerEntryData) -> xdr.LedgerEntry:
    return xdr.LedgerEntry(xdr.Uint32(1), data, xdr.LedgerEntryExt(0))


def _key(data: xdr.LedgerEntryData) -> xdr.LedgerKey:
    if data.trust_line is not None:
        line = xdr.LedgerKeyTrustLine(data.trust_line.account_id, data.trust_line.asset)
        return xdr.LedgerKey(data.type, trust_line=line)
    if data.claimable_balance is not None:
        balance = xdr.LedgerKeyClaimableBalance(data.claimable_balance.balance_id)
        return xdr.LedgerKey(data.type, claimable_balance=balance)
    if data.data is not None:
        return xdr.LedgerKey(data.type, data=xdr.LedgerKeyData(data.data.account_id, data.data.data_name))
    if data.contract_data is not None:
        kept = data.contract_data
        place = xdr.LedgerKeyContractData(kept.contract, kept.key, kept.durability)
        return xdr.LedgerKey(data.type, contract_data=place)
    assert data.liquidity_pool is not None
    pool = xdr.LedgerKeyLiquidityPool(data.liquidity_pool.liquidity_pool_id)
    return xdr.LedgerKey(data.type, liquidity_pool=pool)
