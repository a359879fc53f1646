"""What a ledger left of our accounts, as absolute values from its entries. Pure.

Only what the ledger touched is told: what it did not touch is as it was. The entries were walked and proved before; the few that
are ours are decoded by the SDK. Source: Stellar-ledger-entries.x; CAP-33 (sponsored reserves), CAP-18 and CAP-35 (flags), SEP-29.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from stellar_sdk import SignerKey, StrKey, xdr

from custody.holdings.model import (
    AccountDatum,
    AccountSigner,
    AccountState,
    Authorization,
    ChainState,
    HoldingState,
)
from custody.kernel.assetid import AssetId, ChainId, native
from ingestion.stellar.entries import MEMO_REQUIRED, REMOVED, contract_balances
from ingestion.stellar.holders import account_name, asset_name, contract_name
from ingestion.stellar.prove import Passage
from ingestion.stellar.scan.ledger import ScannedLedger

_OWN_RESERVES = 2
"""Reserves of an account without anything else."""
_AUTHORIZED, _MAINTAIN, _CLAWBACK = 1, 2, 4
"""TrustLineFlags."""


def read_state(
    ledger: ScannedLedger,
    chain: ChainId,
    passed: Mapping[bytes, Passage],
    ours: Collection[str],
    tokens: Mapping[str, str],
) -> ChainState:
    """How these accounts stand after a ledger whose entries passed through it so.

    `tokens`: assets by the contract that spoke for them in this ledger; what other contracts keep is not believed to be an asset.
    """
    holdings: list[HoldingState] = []
    accounts: list[AccountState] = []
    data: list[AccountDatum] = []
    for entry, passage in passed.items():
        kind, owner = entry[:1], entry[1:33]
        holder = contract_name(entry[33:65]) if kind == b"c" else account_name(owner)
        if holder not in ours or kind not in (b"a", b"t", b"c", b"d"):
            continue
        written = _decode(ledger.data, passage)
        before = next(iter(passage.before.values()), 0)
        if kind == b"a":
            account = None if written is None else written.data.account
            sponsor = None if written is None else _sponsor(written)
            holdings.append(_lumens(chain, holder, before, account))
            accounts.append(_account(holder, account, sponsor, ledger.base_reserve))
        elif kind == b"t":
            line = None if written is None else written.data.trust_line
            holdings.append(_trustline(AssetId(chain, asset_name(entry[33:])), holder, before, line))
        elif kind == b"d":
            datum = None if written is None else written.data.data
            value = None if datum is None else datum.data_value.data_value
            data.append(AccountDatum(account=holder, name=MEMO_REQUIRED, value=value))
        elif (asset := tokens.get(contract_name(owner))) is not None:
            found = (
                ledger.data[passage.last.begin : passage.last.end] if passage.last.kind != REMOVED else b""
            )
            holdings.append(_contract(AssetId(chain, asset), holder, before, found))
    return ChainState(holdings=tuple(holdings), accounts=tuple(accounts), data=tuple(data))


def _decode(data: bytes, passage: Passage) -> xdr.LedgerEntry | None:
    """The entry as the ledger left it; None when it is gone."""
    if passage.last.kind == REMOVED:
        return None
    return xdr.LedgerEntry.from_xdr_bytes(data[passage.last.begin : passage.last.end])


def _lumens(chain: ChainId, holder: str, before: int, account: xdr.AccountEntry | None) -> HoldingState:
    if account is None:
        return HoldingState(account=holder, asset=native(chain), exists=False, before=before, amount=0)
    selling, buying = _liabilities(account.ext.v1)
    return HoldingState(
        account=holder,
        asset=native(chain),
        exists=True,
        before=before,
        amount=account.balance.int64,
        selling=selling,
        buying=buying,
    )


def _account(
    holder: str, account: xdr.AccountEntry | None, sponsor: str | None, base_reserve: int
) -> AccountState:
    if account is None:
        return AccountState(account=holder, exists=False)
    more = account.ext.v1.ext.v2 if account.ext.v1 is not None else None
    sponsoring = 0 if more is None else more.num_sponsoring.uint32
    sponsored = 0 if more is None else more.num_sponsored.uint32
    subentries = account.num_sub_entries.uint32
    minimum = (_OWN_RESERVES + subentries + sponsoring - sponsored) * base_reserve
    selling, _ = _liabilities(account.ext.v1)
    master, low, medium, high = account.thresholds.thresholds
    return AccountState(
        account=holder,
        exists=True,
        sequence=account.seq_num.sequence_number.int64,
        subentries=subentries,
        sponsoring=sponsoring,
        sponsored=sponsored,
        base_reserve=base_reserve,
        minimum=minimum,
        spendable=max(0, account.balance.int64 - minimum - selling),
        master_weight=master,
        low=low,
        medium=medium,
        high=high,
        flags=account.flags.uint32,
        home_domain=account.home_domain.string32.decode("utf-8", "backslashreplace").replace("\x00", r"\x00"),
        sponsor=sponsor,
        signers=tuple(_signers(account, more)),
    )


def _signers(account: xdr.AccountEntry, more: xdr.AccountEntryExtensionV2 | None) -> Iterator[AccountSigner]:
    """The sponsors stand apart, in the same order; an account that never had one has no list of them."""
    sponsors = [] if more is None else more.signer_sponsoring_i_ds
    for number, signer in enumerate(account.signers):
        found = sponsors[number].sponsorship_descriptor if number < len(sponsors) else None
        yield AccountSigner(
            key=SignerKey.from_xdr_object(signer.key).encoded_signer_key,
            weight=signer.weight.uint32,
            sponsor=None if found is None else _name(found),
        )


def _trustline(asset: AssetId, holder: str, before: int, line: xdr.TrustLineEntry | None) -> HoldingState:
    if line is None:
        return HoldingState(account=holder, asset=asset, exists=False, before=before, amount=0)
    selling, buying = _liabilities(line.ext.v1)
    return HoldingState(
        account=holder,
        asset=asset,
        exists=True,
        before=before,
        amount=line.balance.int64,
        selling=selling,
        buying=buying,
        limit=line.limit.int64,
        authorization=_authorization(line.flags.uint32),
        clawback=bool(line.flags.uint32 & _CLAWBACK),
    )


def _contract(asset: AssetId, holder: str, before: int, entry: bytes) -> HoldingState:
    found = contract_balances().match(entry, 8)
    if found is None:
        return HoldingState(account=holder, asset=asset, exists=False, before=before, amount=0)
    return HoldingState(
        account=holder,
        asset=asset,
        exists=True,
        before=before,
        amount=int.from_bytes(found[3], "big", signed=True),
        authorization="full" if found[4] == b"\1" else "none",
        clawback=found[5] == b"\1",
    )


def _authorization(flags: int) -> Authorization:
    if flags & _AUTHORIZED:
        return "full"
    return "maintain" if flags & _MAINTAIN else "none"


def _liabilities(extension: xdr.AccountEntryExtensionV1 | xdr.TrustLineEntryV1 | None) -> tuple[int, int]:
    """Selling and buying; none in an entry from before protocol 10."""
    if extension is None:
        return 0, 0
    return extension.liabilities.selling.int64, extension.liabilities.buying.int64


def _sponsor(entry: xdr.LedgerEntry) -> str | None:
    found = entry.ext.v1.sponsoring_id.sponsorship_descriptor if entry.ext.v1 is not None else None
    return None if found is None else _name(found)


def _name(account: xdr.AccountID) -> str:
    key = account.account_id.ed25519
    if key is None:
        raise ValueError("an account without a key")
    return StrKey.encode_ed25519_public_key(key.uint256)
