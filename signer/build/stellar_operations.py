"""The one operation of a Stellar intent: built with the SDK's classes from text, and read back from raw XDR as plain values.

`operation_of` and `expected_effect` share nothing but the intent: one goes through the SDK's strings, the other through the
bytes inside the addresses. Source: SEP-23, CAP-21; Stellar-transaction.x.
"""

from stellar_sdk import (
    AccountMerge,
    Asset,
    ChangeTrust,
    Claimant,
    ClaimClaimableBalance,
    CreateAccount,
    CreateClaimableBalance,
    ManageData,
    MuxedAccount,
    Operation,
    PathPaymentStrictReceive,
    PathPaymentStrictSend,
    Payment,
    SetOptions,
    Signer,
    xdr,
)

from signer.protocol.fields import account_of, path_of, payload_of
from signer.protocol.intent import (
    StellarAccountMerge,
    StellarAnchor,
    StellarChangeTrust,
    StellarChannelPayment,
    StellarClaimablePayment,
    StellarClaimBalance,
    StellarCreateAccount,
    StellarMemoRequired,
    StellarPathReceive,
    StellarPathSend,
    StellarPayment,
    StellarSetOptions,
)

STROOPS_PER_UNIT = 10**7
ANCHOR_STROOPS = 1
"""What an anchor pays to itself: the least that a payment can carry."""
MEMO_REQUIRED = "config.memo_required"
"""The data entry by which an account asks for a memo. Source: SEP-29."""
AT_ANY_TIME = bytes(4)
"""CLAIM_PREDICATE_UNCONDITIONAL, the predicate without any condition, as XDR. Source: CAP-23."""
BALANCE_ID_V0 = "00000000"
"""The type in front of a claimable balance's hash."""

Seldom = (
    StellarCreateAccount
    | StellarClaimablePayment
    | StellarPathSend
    | StellarPathReceive
    | StellarChangeTrust
    | StellarAnchor
    | StellarAccountMerge
    | StellarSetOptions
    | StellarClaimBalance
    | StellarMemoRequired
)
"""All but payments, which `stellar_frame` packs, and the call of a contract."""
Classic = StellarPayment | StellarChannelPayment | Seldom
"""All but the call of a contract."""

Effect = tuple[object, ...]
"""The name of an operation and its values, in the order of the XDR; accounts and assets as bytes."""


def operation_of(intent: Seldom) -> Operation:  # noqa: PLR0911  # one row per kind
    """Return the operation of an intent that is no payment; it has no source of its own."""
    match intent:
        case StellarAnchor():
            return Payment(_muxed(intent.source), Asset.native(), units(ANCHOR_STROOPS))
        case StellarCreateAccount():
            return CreateAccount(intent.destination, units(intent.amount))
        case StellarClaimablePayment():
            claimants = [Claimant(intent.destination)]
            return CreateClaimableBalance(asset_of_text(intent.asset), units(intent.amount), claimants)
        case StellarPathSend() | StellarPathReceive():
            return _path_payment(intent)
        case StellarChangeTrust():
            return ChangeTrust(asset=asset_of_text(intent.asset), limit=units(intent.limit))
        case StellarAccountMerge():
            return AccountMerge(_muxed(intent.destination))
        case StellarSetOptions():
            return _set_options(intent)
        case StellarClaimBalance():
            return ClaimClaimableBalance(BALANCE_ID_V0 + intent.balance_id)
        case StellarMemoRequired():
            return ManageData(MEMO_REQUIRED, "1")


def _path_payment(intent: StellarPathSend | StellarPathReceive) -> Operation:
    destination, path = _muxed(intent.destination), [asset_of_text(text) for text in path_of(intent.path)]
    leaving, arriving = asset_of_text(intent.send_asset), asset_of_text(intent.dest_asset)
    if isinstance(intent, StellarPathSend):
        sent, least = units(intent.send_amount), units(intent.dest_min)
        return PathPaymentStrictSend(destination, leaving, sent, arriving, least, path)
    most, received = units(intent.send_max), units(intent.dest_amount)
    return PathPaymentStrictReceive(destination, leaving, most, arriving, received, path)


def _set_options(intent: StellarSetOptions) -> Operation:
    signer = None
    if intent.signer_key:
        signer = Signer.ed25519_public_key(intent.signer_key, int(intent.signer_weight))
    return SetOptions(
        master_weight=_given(intent.master_weight),
        low_threshold=_given(intent.low_threshold),
        med_threshold=_given(intent.med_threshold),
        high_threshold=_given(intent.high_threshold),
        signer=signer,
    )


def expected_effect(intent: Classic) -> Effect:  # noqa: PLR0911  # one row per kind
    """Return what `read_effect` must find, taken from the intent without the SDK."""
    match intent:
        case StellarPayment() | StellarChannelPayment():
            return "payment", payload_of(intent.destination), raw_asset(intent.asset), intent.amount
        case StellarAnchor():
            return "payment", payload_of(intent.source), raw_asset("native"), ANCHOR_STROOPS
        case StellarCreateAccount():
            return "create_account", payload_of(intent.destination), intent.amount
        case StellarClaimablePayment():
            claimants = ((payload_of(intent.destination), AT_ANY_TIME),)
            return "create_claimable_balance", raw_asset(intent.asset), intent.amount, claimants
        case StellarPathSend():
            ends = raw_asset(intent.send_asset), intent.send_amount, payload_of(intent.destination)
            path = tuple(raw_asset(text) for text in path_of(intent.path))
            return "path_send", *ends, raw_asset(intent.dest_asset), intent.dest_min, path
        case StellarPathReceive():
            ends = raw_asset(intent.send_asset), intent.send_max, payload_of(intent.destination)
            path = tuple(raw_asset(text) for text in path_of(intent.path))
            return "path_receive", *ends, raw_asset(intent.dest_asset), intent.dest_amount, path
        case StellarChangeTrust():
            return "change_trust", raw_asset(intent.asset), intent.limit
        case StellarAccountMerge():
            return "account_merge", payload_of(intent.destination)
        case StellarSetOptions():
            return _expected_options(intent)
        case StellarClaimBalance():
            return "claim_claimable_balance", bytes.fromhex(intent.balance_id)
        case StellarMemoRequired():
            return "manage_data", b"config.memo_required", b"1"


def _expected_options(intent: StellarSetOptions) -> Effect:
    weights = intent.master_weight, intent.low_threshold, intent.med_threshold, intent.high_threshold
    signer = None
    if intent.signer_key:
        signer = payload_of(intent.signer_key), int(intent.signer_weight)
    return "set_options", *(_given(weight) for weight in weights), signer


def read_effect(body: xdr.OperationBody) -> Effect:  # noqa: PLR0911  # one row per operation
    """Return what an operation does; () for any operation that no intent stands for."""
    if (payment := body.payment_op) is not None:
        destination = read_account(payment.destination)
        return "payment", destination, read_asset(payment.asset), payment.amount.int64
    if (create := body.create_account_op) is not None:
        return "create_account", read_key(create.destination), create.starting_balance.int64
    if (aside := body.create_claimable_balance_op) is not None:
        claimants = tuple(_read_claimant(each) for each in aside.claimants)
        return "create_claimable_balance", read_asset(aside.asset), aside.amount.int64, claimants
    if (send := body.path_payment_strict_send_op) is not None:
        ends = read_asset(send.send_asset), send.send_amount.int64, read_account(send.destination)
        path = tuple(read_asset(asset) for asset in send.path)
        return "path_send", *ends, read_asset(send.dest_asset), send.dest_min.int64, path
    if (receive := body.path_payment_strict_receive_op) is not None:
        ends = read_asset(receive.send_asset), receive.send_max.int64, read_account(receive.destination)
        path = tuple(read_asset(asset) for asset in receive.path)
        return "path_receive", *ends, read_asset(receive.dest_asset), receive.dest_amount.int64, path
    if (trust := body.change_trust_op) is not None:
        return "change_trust", read_asset(trust.line), trust.limit.int64
    if body.type is xdr.OperationType.ACCOUNT_MERGE and body.destination is not None:
        return "account_merge", read_account(body.destination)
    if (options := body.set_options_op) is not None:
        return _read_options(options)
    if (claim := body.claim_claimable_balance_op) is not None:
        balance = claim.balance_id.v0
        return "claim_claimable_balance", b"" if balance is None else balance.hash
    if (entry := body.manage_data_op) is not None:
        value = entry.data_value
        return "manage_data", entry.data_name.string64, None if value is None else value.data_value
    return ()


def _read_claimant(claimant: xdr.Claimant) -> tuple[bytes, bytes]:
    """Return the key, and its predicate as XDR."""
    known = claimant.v0
    return (b"", b"") if known is None else (read_key(known.destination), known.predicate.to_xdr_bytes())


def _read_options(options: xdr.SetOptionsOp) -> Effect:
    foreign = (options.inflation_dest, options.clear_flags, options.set_flags, options.home_domain)
    if any(value is not None for value in foreign):
        return ()
    weights = (options.master_weight, options.low_threshold, options.med_threshold, options.high_threshold)
    signer = None
    if options.signer is not None:
        key = options.signer.key.ed25519
        signer = b"" if key is None else key.uint256, options.signer.weight.uint32
    return "set_options", *(None if weight is None else weight.uint32 for weight in weights), signer


def read_account(account: xdr.MuxedAccount) -> bytes:
    """Return the bytes inside an account's G or M address."""
    if account.med25519 is not None:
        muxed = account.med25519
        return muxed.ed25519.uint256 + muxed.id.uint64.to_bytes(8, "big")
    return b"" if account.ed25519 is None else account.ed25519.uint256


def read_key(account: xdr.AccountID) -> bytes:
    """Return the 32 bytes of an account's key."""
    key = account.account_id.ed25519
    return b"" if key is None else key.uint256


def read_asset(asset: xdr.Asset | xdr.ChangeTrustAsset | xdr.TrustLineAsset) -> tuple[bytes, ...]:
    """Return code, padded to 4 or 12 bytes, and issuer; () of the native asset, (b"",) of a share of a pool."""
    if asset.alpha_num4 is not None:
        four = asset.alpha_num4
        return four.asset_code.asset_code4, read_key(four.issuer)
    if asset.alpha_num12 is not None:
        twelve = asset.alpha_num12
        return twelve.asset_code.asset_code12, read_key(twelve.issuer)
    return () if asset.type is xdr.AssetType.ASSET_TYPE_NATIVE else (b"",)


def raw_asset(text: str) -> tuple[bytes, ...]:
    """Return what `read_asset` must find of "native" or "CODE:ISSUER"."""
    if text == "native":
        return ()
    code, _, issuer = text.partition(":")
    raw = code.encode("ascii")
    return raw.ljust(4 if len(raw) <= 4 else 12, b"\0"), account_of(issuer)


def asset_of_text(text: str) -> Asset:
    """Return the SDK's asset of "native" or "CODE:ISSUER"."""
    if text == "native":
        return Asset.native()
    code, _, issuer = text.partition(":")
    return Asset(code, issuer)


def units(stroops: int) -> str:
    """Return the decimal text that the SDK wants for an amount."""
    return f"{stroops // STROOPS_PER_UNIT}.{stroops % STROOPS_PER_UNIT:07d}"


def _given(text: str) -> int | None:
    return int(text) if text else None


def _muxed(address: str) -> MuxedAccount:
    return MuxedAccount.from_account(address)
