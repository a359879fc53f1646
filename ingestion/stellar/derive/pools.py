"""What goes into liquidity pools and out of them. Pure.

Neither the operation nor its result says how much: the pool's own entry does. Source: CAP-38; CAP-67.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from stellar_sdk import Asset, Keypair, xdr

from ingestion.stellar.derive.moves import Applied, Move, name_account_id
from ingestion.stellar.entries import CREATED
from ingestion.stellar.holders import NATIVE, claimable_name, issuer_of


def pool_deposit(applied: Applied) -> Iterator[Move]:
    """Both assets from the depositor into the pool."""
    op = applied.body.liquidity_pool_deposit_op
    if op is not None:
        for (pool, asset), amount in applied.gains(b"l" + op.liquidity_pool_id.pool_id.hash).items():
            yield Move(asset, applied.source, pool, amount)


def pool_withdrawal(applied: Applied) -> Iterator[Move]:
    """Both assets out of the pool, of which rounding may leave nothing."""
    op = applied.body.liquidity_pool_withdraw_op
    if op is not None:
        for (pool, asset), amount in applied.gains(b"l" + op.liquidity_pool_id.pool_id.hash).items():
            yield Move(asset, pool, applied.source, -amount)


def pool_revocation(applied: Applied) -> Iterator[Move]:
    """Out of each pool whose participant lost an authorization: into claimable balances, or back to whoever issued it."""
    op = applied.body.allow_trust_op or applied.body.set_trust_line_flags_op
    if op is None:
        return
    trustor = name_account_id(op.trustor)
    created = {
        change.entry[1:] for change in applied.changes if change.kind == CREATED and change.entry[:1] == b"b"
    }
    pools = dict.fromkeys(change.entry for change in applied.changes if change.entry[:1] == b"l")
    for entry in pools:
        for key, gained in applied.gains(entry).items():
            balance = _revoked_balance(applied, entry[1:], key[1])
            if balance in created:
                yield Move(key[1], key[0], claimable_name(balance), -gained)
            elif issuer_of(key[1]) == trustor and gained:
                yield Move(key[1], key[0], trustor, -gained)


def _revoked_balance(applied: Applied, pool_id: bytes, asset: str) -> bytes:
    """The id that core gives to the claimable balance of one asset. Source: Stellar-transaction.x, POOL_REVOKE_OP_ID."""
    preimage = xdr.HashIDPreimage(
        xdr.EnvelopeType.ENVELOPE_TYPE_POOL_REVOKE_OP_ID,
        revoke_id=xdr.HashIDPreimageRevokeID(
            source_account=Keypair.from_public_key(applied.sender.account).xdr_account_id(),
            seq_num=xdr.SequenceNumber(xdr.Int64(applied.sender.sequence)),
            op_num=xdr.Uint32(applied.number - 1),
            liquidity_pool_id=xdr.PoolID(xdr.Hash(pool_id)),
            asset=_asset(asset).to_xdr_object(),
        ),
    )
    return hashlib.sha256(preimage.to_xdr_bytes()).digest()


def _asset(name: str) -> Asset:
    code, _, issuer = name.partition(":")
    return Asset.native() if name == NATIVE else Asset(code, issuer)
