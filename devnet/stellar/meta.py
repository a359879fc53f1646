"""Entries and changes in the XDR forms of ledger meta, and the way back when a closed ledger is replayed."""

from collections.abc import Iterable

from stellar_sdk import xdr

from devnet.stellar.entries import (
    Account,
    ClaimableBalance,
    DataEntry,
    Entry,
    TrustLine,
    account_id_xdr,
    asset_from_xdr,
    raw_account,
)
from devnet.stellar.state import Change, Key, LedgerState, key_from_xdr, key_of, key_to_xdr

POINT = xdr.ExtensionPoint(0)


def entry_to_xdr(entry: Entry) -> xdr.LedgerEntry:
    ext = xdr.LedgerEntryExt(0)
    if isinstance(entry, ClaimableBalance):
        sponsor = xdr.SponsorshipDescriptor(account_id_xdr(entry.sponsor))
        ext = xdr.LedgerEntryExt(1, v1=xdr.LedgerEntryExtensionV1(sponsor, xdr.LedgerEntryExtensionV1Ext(0)))
    return xdr.LedgerEntry(xdr.Uint32(entry.modified), entry.to_data(), ext)


def changes_to_xdr(changes: Iterable[Change]) -> xdr.LedgerEntryChanges:
    """As core writes them: CREATED alone; STATE then UPDATED; STATE then REMOVED."""
    kind = xdr.LedgerEntryChangeType
    out: list[xdr.LedgerEntryChange] = []
    for change in changes:
        if change.before is not None:
            out.append(xdr.LedgerEntryChange(kind.LEDGER_ENTRY_STATE, state=entry_to_xdr(change.before)))
        if change.after is None:
            out.append(xdr.LedgerEntryChange(kind.LEDGER_ENTRY_REMOVED, removed=key_to_xdr(change.key)))
        elif change.before is None:
            out.append(xdr.LedgerEntryChange(kind.LEDGER_ENTRY_CREATED, created=entry_to_xdr(change.after)))
        else:
            out.append(xdr.LedgerEntryChange(kind.LEDGER_ENTRY_UPDATED, updated=entry_to_xdr(change.after)))
    return xdr.LedgerEntryChanges(out)


def no_changes() -> xdr.LedgerEntryChanges:
    return xdr.LedgerEntryChanges([])


def replay(state: LedgerState, meta: xdr.LedgerCloseMeta) -> None:
    """Bring a state forward by one closed ledger, from nothing but its meta.

    Fees of all transactions come first, as they did at the close.
    """
    if meta.v2 is None:
        raise ValueError("this network only writes LedgerCloseMeta V2")
    for tx in meta.v2.tx_processing:
        _apply_changes(state, tx.fee_processing)
    for tx in meta.v2.tx_processing:
        body = tx.tx_apply_processing.v4
        if body is None:
            raise ValueError("this network only writes TransactionMeta V4")
        _apply_changes(state, body.tx_changes_before)
        for operation in body.operations:
            _apply_changes(state, operation.changes)
        _apply_changes(state, body.tx_changes_after)
        _apply_changes(state, tx.post_tx_apply_fee_processing)


def _apply_changes(state: LedgerState, changes: xdr.LedgerEntryChanges) -> None:
    for change in changes.ledger_entry_changes:
        written = change.created or change.updated
        if written is not None:
            entry = entry_from_xdr(written)
            state.write(key_of(entry), entry)
        elif change.removed is not None:
            state.write(_known_key(change.removed), None)


def _known_key(key: xdr.LedgerKey) -> Key:
    found = key_from_xdr(key)
    if found is None:
        raise ValueError(f"stored ledger holds an entry of unknown kind {key.type.name}")
    return found


def entry_from_xdr(entry: xdr.LedgerEntry) -> Entry:
    """Raises ValueError for a kind of entry this network never writes."""
    data, modified = entry.data, entry.last_modified_ledger_seq.uint32
    if data.account is not None:
        return _account_from_xdr(data.account, modified)
    if data.trust_line is not None:
        line = data.trust_line
        return TrustLine(
            account=raw_account(line.account_id),
            asset=asset_from_xdr(line.asset),
            balance=line.balance.int64,
            limit=line.limit.int64,
            flags=line.flags.uint32,
            modified=modified,
        )
    if data.claimable_balance is not None:
        return _claimable_from_xdr(data.claimable_balance, entry)
    if data.data is not None:
        return DataEntry(
            account=raw_account(data.data.account_id),
            name=data.data.data_name.string64,
            value=data.data.data_value.data_value,
            modified=modified,
        )
    raise ValueError(f"entry of unknown kind {data.type.name}")


def _account_from_xdr(account: xdr.AccountEntry, modified: int) -> Account:
    v2 = account.ext.v1.ext.v2 if account.ext.v1 is not None else None
    v3 = v2.ext.v3 if v2 is not None else None
    master, low, medium, high = account.thresholds.thresholds
    return Account(
        account=raw_account(account.account_id),
        balance=account.balance.int64,
        seq=account.seq_num.sequence_number.int64,
        subentries=account.num_sub_entries.uint32,
        num_sponsoring=0 if v2 is None else v2.num_sponsoring.uint32,
        flags=account.flags.uint32,
        home_domain=account.home_domain.string32,
        thresholds=(master, low, medium, high),
        signers=tuple((s.key.to_xdr_bytes(), s.weight.uint32) for s in account.signers),
        inflation_dest=None if account.inflation_dest is None else raw_account(account.inflation_dest),
        seq_ledger=None if v3 is None else v3.seq_ledger.uint32,
        seq_time=None if v3 is None else v3.seq_time.time_point.uint64,
        modified=modified,
    )


def _claimable_from_xdr(balance: xdr.ClaimableBalanceEntry, entry: xdr.LedgerEntry) -> ClaimableBalance:
    sponsor = entry.ext.v1.sponsoring_id.sponsorship_descriptor if entry.ext.v1 is not None else None
    if sponsor is None or balance.balance_id.v0 is None:
        raise ValueError("claimable balance without a sponsor or with an unknown id")
    return ClaimableBalance(
        balance_id=balance.balance_id.v0.hash,
        claimants=tuple(
            (raw_account(c.v0.destination), c.v0.predicate.to_xdr_bytes())
            for c in balance.claimants
            if c.v0 is not None
        ),
        asset=asset_from_xdr(balance.asset),
        amount=balance.amount.int64,
        clawback=balance.ext.v1 is not None and bool(balance.ext.v1.flags.uint32 & 1),
        sponsor=raw_account(sponsor),
        modified=entry.last_modified_ledger_seq.uint32,
    )
