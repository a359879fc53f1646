"""Ledger entries of the development network, as frozen values with their XDR forms.

The network keeps its state in these small values and turns them into XDR only where a client can see them: an
entry in a meta change, or an answer of getLedgerEntries. Amounts are integers of atomic units (stroops for native).
"""

import hashlib
from dataclasses import dataclass
from typing import TypeAlias

from stellar_sdk import xdr

BASE_RESERVE_STROOPS = 5_000_000
"""0.5 XLM per reserve unit. Source: the public network's header, base_reserve."""
INT64_MAX = 2**63 - 1
AUTH_REQUIRED, AUTH_REVOCABLE, AUTH_IMMUTABLE, AUTH_CLAWBACK = 1, 2, 4, 8
LINE_AUTHORIZED, LINE_MAINTAIN, LINE_CLAWBACK = 1, 2, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetRef:
    """Native XLM (both fields None) or one issuer's credit asset."""

    code: bytes | None = None
    """Asset code without its zero padding, 1 to 12 bytes."""
    issuer: bytes | None = None
    """Raw ed25519 key of the issuing account."""

    @property
    def is_native(self) -> bool:
        return self.issuer is None

    def to_xdr(self) -> xdr.Asset:
        kind, four, twelve = self._alphanum()
        return xdr.Asset(kind, alpha_num4=four, alpha_num12=twelve)

    def to_trust_xdr(self) -> xdr.TrustLineAsset:
        kind, four, twelve = self._alphanum()
        return xdr.TrustLineAsset(kind, alpha_num4=four, alpha_num12=twelve)

    def _alphanum(self) -> tuple[xdr.AssetType, xdr.AlphaNum4 | None, xdr.AlphaNum12 | None]:
        if self.code is None or self.issuer is None:
            return xdr.AssetType.ASSET_TYPE_NATIVE, None, None
        issuer = account_id_xdr(self.issuer)
        if len(self.code) <= 4:
            code4 = xdr.AssetCode4(self.code.ljust(4, b"\0"))
            return xdr.AssetType.ASSET_TYPE_CREDIT_ALPHANUM4, xdr.AlphaNum4(code4, issuer), None
        code12 = xdr.AssetCode12(self.code.ljust(12, b"\0"))
        return xdr.AssetType.ASSET_TYPE_CREDIT_ALPHANUM12, None, xdr.AlphaNum12(code12, issuer)


NATIVE = AssetRef()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account entry. Sponsorship of accounts does not exist here, so num_sponsored is always zero."""

    account: bytes
    """Raw ed25519 key that names the account."""
    balance: int
    """Stroops."""
    seq: int
    subentries: int = 0
    """Trustlines, extra signers and data entries, each worth one base reserve."""
    num_sponsoring: int = 0
    """Reserves this account pays for others: one per claimant of each claimable balance it made."""
    flags: int = 0
    home_domain: bytes = b""
    thresholds: tuple[int, int, int, int] = (1, 0, 0, 0)
    """Master weight, then the low, medium and high thresholds."""
    signers: tuple[tuple[bytes, int], ...] = ()
    """XDR of each SignerKey with its weight, in the order of the keys."""
    inflation_dest: bytes | None = None
    seq_ledger: int | None = None
    """Ledger that last moved the sequence, None until the first transaction."""
    seq_time: int | None = None
    modified: int = 0
    """Ledger that last wrote the entry."""

    @property
    def min_balance(self) -> int:
        """Stroops that must stay. Source: (2 + subentries + sponsoring - sponsored) base reserves."""
        return (2 + self.subentries + self.num_sponsoring) * BASE_RESERVE_STROOPS

    @property
    def available(self) -> int:
        return self.balance - self.min_balance

    def to_data(self) -> xdr.LedgerEntryData:
        entry = xdr.AccountEntry(
            account_id=account_id_xdr(self.account),
            balance=xdr.Int64(self.balance),
            seq_num=xdr.SequenceNumber(xdr.Int64(self.seq)),
            num_sub_entries=xdr.Uint32(self.subentries),
            inflation_dest=None if self.inflation_dest is None else account_id_xdr(self.inflation_dest),
            flags=xdr.Uint32(self.flags),
            home_domain=xdr.String32(self.home_domain),
            thresholds=xdr.Thresholds(bytes(self.thresholds)),
            signers=[xdr.Signer(xdr.SignerKey.from_xdr_bytes(k), xdr.Uint32(w)) for k, w in self.signers],
            ext=self._ext(),
        )
        return xdr.LedgerEntryData(xdr.LedgerEntryType.ACCOUNT, account=entry)

    def _ext(self) -> xdr.AccountEntryExt:
        """The nested extensions appear only when used, as they do for a fresh account on the real network."""
        v3 = None
        if self.seq_ledger is not None:
            v3 = xdr.AccountEntryExtensionV3(
                xdr.ExtensionPoint(0),
                xdr.Uint32(self.seq_ledger),
                xdr.TimePoint(xdr.Uint64(self.seq_time or 0)),
            )
        if v3 is None and self.num_sponsoring == 0:
            return xdr.AccountEntryExt(0)
        v2 = xdr.AccountEntryExtensionV2(
            xdr.Uint32(0),
            xdr.Uint32(self.num_sponsoring),
            [xdr.SponsorshipDescriptor(None) for _ in self.signers],
            xdr.AccountEntryExtensionV2Ext(0 if v3 is None else 3, v3=v3),
        )
        v1 = xdr.AccountEntryExtensionV1(
            xdr.Liabilities(xdr.Int64(0), xdr.Int64(0)), xdr.AccountEntryExtensionV1Ext(2, v2=v2)
        )
        return xdr.AccountEntryExt(1, v1=v1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustLine:
    """How much of a credit asset an account holds and may hold."""

    account: bytes
    asset: AssetRef
    balance: int
    limit: int
    flags: int
    modified: int = 0

    @property
    def authorized(self) -> bool:
        return bool(self.flags & LINE_AUTHORIZED)

    def to_data(self) -> xdr.LedgerEntryData:
        entry = xdr.TrustLineEntry(
            account_id=account_id_xdr(self.account),
            asset=self.asset.to_trust_xdr(),
            balance=xdr.Int64(self.balance),
            limit=xdr.Int64(self.limit),
            flags=xdr.Uint32(self.flags),
            ext=xdr.TrustLineEntryExt(0),
        )
        return xdr.LedgerEntryData(xdr.LedgerEntryType.TRUSTLINE, trust_line=entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimableBalance:
    """Money set aside by one account for its claimants; the maker pays the reserves."""

    balance_id: bytes
    """The 32 bytes of the v0 id."""
    claimants: tuple[tuple[bytes, bytes], ...]
    """Claimant key and the XDR of its predicate, relative times already made absolute."""
    asset: AssetRef
    amount: int
    clawback: bool
    sponsor: bytes
    modified: int = 0

    def to_data(self) -> xdr.LedgerEntryData:
        claimants = [
            xdr.Claimant(
                xdr.ClaimantType.CLAIMANT_TYPE_V0,
                v0=xdr.ClaimantV0(account_id_xdr(key), xdr.ClaimPredicate.from_xdr_bytes(predicate)),
            )
            for key, predicate in self.claimants
        ]
        flags = xdr.ClaimableBalanceEntryExtensionV1(
            xdr.ClaimableBalanceEntryExtensionV1Ext(0), xdr.Uint32(1)
        )
        entry = xdr.ClaimableBalanceEntry(
            balance_id=balance_id_xdr(self.balance_id),
            claimants=claimants,
            asset=self.asset.to_xdr(),
            amount=xdr.Int64(self.amount),
            ext=xdr.ClaimableBalanceEntryExt(1, v1=flags)
            if self.clawback
            else xdr.ClaimableBalanceEntryExt(0),
        )
        return xdr.LedgerEntryData(xdr.LedgerEntryType.CLAIMABLE_BALANCE, claimable_balance=entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataEntry:
    """A named value of up to 64 bytes that hangs on an account."""

    account: bytes
    name: bytes
    value: bytes
    modified: int = 0

    def to_data(self) -> xdr.LedgerEntryData:
        entry = xdr.DataEntry(
            account_id_xdr(self.account),
            xdr.String64(self.name),
            xdr.DataValue(self.value),
            xdr.DataEntryExt(0),
        )
        return xdr.LedgerEntryData(xdr.LedgerEntryType.DATA, data=entry)


Entry: TypeAlias = Account | TrustLine | ClaimableBalance | DataEntry


def account_id_xdr(key: bytes) -> xdr.AccountID:
    return xdr.AccountID(xdr.PublicKey(xdr.PublicKeyType.PUBLIC_KEY_TYPE_ED25519, xdr.Uint256(key)))


def balance_id_xdr(balance_id: bytes) -> xdr.ClaimableBalanceID:
    return xdr.ClaimableBalanceID(
        xdr.ClaimableBalanceIDType.CLAIMABLE_BALANCE_ID_TYPE_V0, v0=xdr.Hash(balance_id)
    )


def raw_account(account: xdr.AccountID) -> bytes:
    """The raw ed25519 key in an AccountID."""
    key = account.account_id.ed25519
    if key is None:
        raise ValueError("account id without an ed25519 key")
    return key.uint256


def asset_from_xdr(asset: xdr.Asset | xdr.TrustLineAsset | xdr.ChangeTrustAsset) -> AssetRef:
    """Raises ValueError for pool shares, which this network does not have."""
    if asset.type == xdr.AssetType.ASSET_TYPE_NATIVE:
        return NATIVE
    if asset.alpha_num4 is not None:
        four = asset.alpha_num4
        return AssetRef(
            code=four.asset_code.asset_code4.rstrip(b"\0") or b"\0", issuer=raw_account(four.issuer)
        )
    if asset.alpha_num12 is not None:
        twelve = asset.alpha_num12
        return AssetRef(
            code=twelve.asset_code.asset_code12.rstrip(b"\0") or b"\0", issuer=raw_account(twelve.issuer)
        )
    raise ValueError(f"asset type {asset.type.name} is not supported by this development network")


def asset_is_well_formed(asset: xdr.Asset | xdr.ChangeTrustAsset) -> bool:
    """Core's rule for asset codes: ASCII letters and digits, zero padding only behind, 5 to 12 in the long form."""
    if asset.alpha_num4 is not None:
        raw, least = asset.alpha_num4.asset_code.asset_code4, 1
    elif asset.alpha_num12 is not None:
        raw, least = asset.alpha_num12.asset_code.asset_code12, 5
    else:
        return asset.type == xdr.AssetType.ASSET_TYPE_NATIVE
    code = raw.rstrip(b"\0")
    return len(code) >= least and all(chr(c).isascii() and chr(c).isalnum() for c in code)


def sac_contract_id(asset: AssetRef, network_id: bytes) -> bytes:
    """Contract id that the asset's Stellar Asset Contract has on this network, deployed or not.

    Source: CAP-46-6, sha256 of the CONTRACT_ID preimage from the asset.
    """
    preimage = xdr.HashIDPreimage(
        xdr.EnvelopeType.ENVELOPE_TYPE_CONTRACT_ID,
        contract_id=xdr.HashIDPreimageContractID(
            network_id=xdr.Hash(network_id),
            contract_id_preimage=xdr.ContractIDPreimage(
                xdr.ContractIDPreimageType.CONTRACT_ID_PREIMAGE_FROM_ASSET, from_asset=asset.to_xdr()
            ),
        ),
    )
    return hashlib.sha256(preimage.to_xdr_bytes()).digest()
