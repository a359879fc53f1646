"""create_account, account_merge and bump_sequence."""

from dataclasses import replace

from stellar_sdk import xdr

from devnet.stellar.apply.context import OpContext
from devnet.stellar.entries import (
    AUTH_IMMUTABLE,
    BASE_RESERVE_STROOPS,
    INT64_MAX,
    NATIVE,
    Account,
    raw_account,
)
from devnet.stellar.envelope import muxed_raw
from devnet.stellar.events import Holder, destination_tag
from devnet.stellar.results import inner
from devnet.stellar.state import AccountKey

CREATE, MERGE, BUMP = (
    xdr.OperationType.CREATE_ACCOUNT,
    xdr.OperationType.ACCOUNT_MERGE,
    xdr.OperationType.BUMP_SEQUENCE,
)
_Create, _Merge, _Bump = xdr.CreateAccountResultCode, xdr.AccountMergeResultCode, xdr.BumpSequenceResultCode


def first_sequence(ledger: int) -> int:
    """Sequence of an account born in a ledger: high half is the ledger, so old transactions never fit again."""
    return ledger << 32


def check_create(body: xdr.OperationBody, source: bytes) -> xdr.OperationResult | None:
    op = body.create_account_op
    if op is None or op.starting_balance.int64 < 0 or raw_account(op.destination) == source:
        return inner(CREATE, _Create.CREATE_ACCOUNT_MALFORMED)
    return None


def apply_create(ctx: OpContext) -> xdr.OperationResult:
    op = ctx.body.create_account_op
    if op is None:
        return inner(CREATE, _Create.CREATE_ACCOUNT_MALFORMED)
    destination, amount = raw_account(op.destination), op.starting_balance.int64
    if ctx.layer.account(destination) is not None:
        return inner(CREATE, _Create.CREATE_ACCOUNT_ALREADY_EXIST)
    if amount < 2 * BASE_RESERVE_STROOPS:
        return inner(CREATE, _Create.CREATE_ACCOUNT_LOW_RESERVE)
    source = ctx.source_account()
    if source.available < amount:
        return inner(CREATE, _Create.CREATE_ACCOUNT_UNDERFUNDED)
    ctx.layer.put(replace(source, balance=source.balance - amount))
    ctx.layer.put(Account(account=destination, balance=amount, seq=first_sequence(ctx.layer.ledger)))
    plain = xdr.MuxedAccount(xdr.CryptoKeyType.KEY_TYPE_ED25519, ed25519=xdr.Uint256(destination))
    tag = destination_tag(plain, ctx.memo)
    ctx.log.moved(NATIVE, Holder(ctx.source), Holder(destination), amount, tag)
    return inner(CREATE, _Create.CREATE_ACCOUNT_SUCCESS)


def check_merge(body: xdr.OperationBody, source: bytes) -> xdr.OperationResult | None:
    if body.destination is None or muxed_raw(body.destination) == source:
        return inner(MERGE, _Merge.ACCOUNT_MERGE_MALFORMED)
    return None


def apply_merge(ctx: OpContext) -> xdr.OperationResult:
    if ctx.body.destination is None:
        return inner(MERGE, _Merge.ACCOUNT_MERGE_MALFORMED)
    target = ctx.layer.account(muxed_raw(ctx.body.destination))
    if target is None:
        return inner(MERGE, _Merge.ACCOUNT_MERGE_NO_ACCOUNT)
    source = ctx.source_account()
    refusal = _merge_refusal(source, target, ctx.layer.ledger)
    if refusal is not None:
        return inner(MERGE, refusal)
    ctx.layer.put(replace(target, balance=target.balance + source.balance))
    ctx.layer.remove(AccountKey(source.account))
    tag = destination_tag(ctx.body.destination, ctx.memo)
    ctx.log.moved(NATIVE, Holder(source.account), Holder(target.account), source.balance, tag)
    balance = xdr.Int64(source.balance)
    return inner(MERGE, _Merge.ACCOUNT_MERGE_SUCCESS, source_account_balance=balance)


def _merge_refusal(source: Account, target: Account, ledger: int) -> xdr.AccountMergeResultCode | None:
    if source.flags & AUTH_IMMUTABLE:
        return _Merge.ACCOUNT_MERGE_IMMUTABLE_SET
    # Signers go with the account; everything else that hangs on it must be gone first.
    if source.subentries != len(source.signers):
        return _Merge.ACCOUNT_MERGE_HAS_SUB_ENTRIES
    if source.seq >= first_sequence(ledger):
        return _Merge.ACCOUNT_MERGE_SEQNUM_TOO_FAR
    if source.num_sponsoring:
        return _Merge.ACCOUNT_MERGE_IS_SPONSOR
    if target.balance > INT64_MAX - source.balance:
        return _Merge.ACCOUNT_MERGE_DEST_FULL
    return None


def check_bump(body: xdr.OperationBody, source: bytes) -> xdr.OperationResult | None:  # noqa: ARG001 - handler shape
    op = body.bump_sequence_op
    if op is None or op.bump_to.sequence_number.int64 < 0:
        return inner(BUMP, _Bump.BUMP_SEQUENCE_BAD_SEQ)
    return None


def apply_bump(ctx: OpContext) -> xdr.OperationResult:
    op = ctx.body.bump_sequence_op
    if op is None:
        return inner(BUMP, _Bump.BUMP_SEQUENCE_BAD_SEQ)
    account, wanted = ctx.source_account(), op.bump_to.sequence_number.int64
    if wanted > account.seq:
        account = replace(account, seq=wanted, seq_ledger=ctx.layer.ledger, seq_time=ctx.close_time)
    ctx.layer.put(account)
    return inner(BUMP, _Bump.BUMP_SEQUENCE_SUCCESS)
