"""Closes a ledger: builds the transaction set, applies it, chains the header and writes the close meta.

Hashes that clients can check are real: transaction set, results, header, previous header. The bucket list is not
kept here; its hash is replaced by a running hash over all entry changes, so it still commits to the state.
The header's skip list stays empty.
"""

import hashlib
from dataclasses import dataclass

from stellar_sdk import Keypair, xdr

from devnet.stellar.applytx import apply_transaction, charge_fee
from devnet.stellar.entries import BASE_RESERVE_STROOPS
from devnet.stellar.envelope import Frame
from devnet.stellar.meta import POINT, changes_to_xdr, no_changes
from devnet.stellar.state import Layer, LedgerState
from devnet.stellar.txcheck import BASE_FEE_STROOPS, Moment

PROTOCOL_VERSION = 23
MAX_OPERATIONS = 1_000
"""Operations per ledger (the header's max_tx_set_size)."""
TOTAL_COINS = 10**18
"""All stroops that exist: 100 billion XLM, as on the public network's first day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What a close needs to know about the network."""

    network_id: bytes
    node: Keypair
    """Signs the close value, as a validator does."""


def root_keypair(network_id: bytes) -> Keypair:
    """The account that owns all coins of the genesis ledger; as in core, its seed is the network id."""
    return Keypair.from_raw_ed25519_seed(network_id)


def genesis_header() -> xdr.LedgerHeader:
    """Ledger 1. Real networks give no meta for it either; the chain's first meta is ledger 2."""
    return xdr.LedgerHeader(
        ledger_version=xdr.Uint32(PROTOCOL_VERSION),
        previous_ledger_hash=xdr.Hash(bytes(32)),
        scp_value=xdr.StellarValue(
            xdr.Hash(bytes(32)),
            xdr.TimePoint(xdr.Uint64(0)),
            [],
            xdr.StellarValueExt(xdr.StellarValueType.STELLAR_VALUE_BASIC),
        ),
        tx_set_result_hash=xdr.Hash(bytes(32)),
        bucket_list_hash=xdr.Hash(bytes(32)),
        ledger_seq=xdr.Uint32(1),
        total_coins=xdr.Int64(TOTAL_COINS),
        fee_pool=xdr.Int64(0),
        inflation_seq=xdr.Uint32(0),
        id_pool=xdr.Uint64(0),
        base_fee=xdr.Uint32(BASE_FEE_STROOPS),
        base_reserve=xdr.Uint32(BASE_RESERVE_STROOPS),
        max_tx_set_size=xdr.Uint32(MAX_OPERATIONS),
        skip_list=[xdr.Hash(bytes(32)) for _ in range(4)],
        ext=xdr.LedgerHeaderExt(0),
    )


def header_hash(header: xdr.LedgerHeader) -> bytes:
    return hashlib.sha256(header.to_xdr_bytes()).digest()


def close_ledger(
    chain: Chain, state: LedgerState, last: xdr.LedgerHeader, frames: list[Frame], close_time: int
) -> tuple[xdr.LedgerCloseMeta, Layer]:
    """Apply valid frames above the last ledger. The caller stores the meta, then commits the layer to the state."""
    moment = Moment(ledger=last.ledger_seq.uint32 + 1, close_time=close_time)
    ledger = Layer(state, moment.ledger)
    tx_set = _transaction_set(header_hash(last), frames)
    tx_set_hash = hashlib.sha256(tx_set.to_xdr_bytes()).digest()
    ordered = sorted(frames, key=lambda f: _xor(f.full_hash, tx_set_hash))
    fees = [charge_fee(frame, ledger) for frame in ordered]
    processed: list[xdr.TransactionResultMetaV1] = []
    for frame, (fee, fee_changes) in zip(ordered, fees, strict=True):
        applied = apply_transaction(frame, fee, ledger, moment, chain.network_id)
        processed.append(
            xdr.TransactionResultMetaV1(
                ext=POINT,
                result=xdr.TransactionResultPair(xdr.Hash(frame.tx_hash), applied.result),
                fee_processing=changes_to_xdr(fee_changes),
                tx_apply_processing=applied.meta,
                post_tx_apply_fee_processing=no_changes(),
            )
        )
    header = _next_header(chain, last, moment, tx_set_hash, processed)
    return _close_meta(header, tx_set, processed), ledger


def _transaction_set(previous_hash: bytes, frames: list[Frame]) -> xdr.GeneralizedTransactionSet:
    """Classic phase with one component at the base fee, sorted by full hash; an empty Soroban phase behind it."""
    components: list[xdr.TxSetComponent] = []
    if frames:
        envelopes = [f.envelope for f in sorted(frames, key=lambda f: f.full_hash)]
        batch = xdr.TxSetComponentTxsMaybeDiscountedFee(xdr.Int64(BASE_FEE_STROOPS), envelopes)
        kind = xdr.TxSetComponentType.TXSET_COMP_TXS_MAYBE_DISCOUNTED_FEE
        components.append(xdr.TxSetComponent(kind, txs_maybe_discounted_fee=batch))
    soroban = xdr.ParallelTxsComponent(xdr.Int64(BASE_FEE_STROOPS), [])
    phases = [
        xdr.TransactionPhase(0, v0_components=components),
        xdr.TransactionPhase(1, parallel_txs_component=soroban),
    ]
    return xdr.GeneralizedTransactionSet(1, v1_tx_set=xdr.TransactionSetV1(xdr.Hash(previous_hash), phases))


def _next_header(
    chain: Chain,
    last: xdr.LedgerHeader,
    moment: Moment,
    tx_set_hash: bytes,
    processed: list[xdr.TransactionResultMetaV1],
) -> xdr.LedgerHeader:
    results = xdr.TransactionResultSet([p.result for p in processed]).to_xdr_bytes()
    fees = sum(p.result.result.fee_charged.int64 for p in processed)
    state_hash = hashlib.sha256(last.bucket_list_hash.hash)
    for one in processed:
        state_hash.update(one.to_xdr_bytes())
    return xdr.LedgerHeader(
        ledger_version=xdr.Uint32(PROTOCOL_VERSION),
        previous_ledger_hash=xdr.Hash(header_hash(last)),
        scp_value=_close_value(chain, tx_set_hash, moment.close_time),
        tx_set_result_hash=xdr.Hash(hashlib.sha256(results).digest()),
        bucket_list_hash=xdr.Hash(state_hash.digest()),
        ledger_seq=xdr.Uint32(moment.ledger),
        total_coins=last.total_coins,
        fee_pool=xdr.Int64(last.fee_pool.int64 + fees),
        inflation_seq=last.inflation_seq,
        id_pool=last.id_pool,
        base_fee=last.base_fee,
        base_reserve=last.base_reserve,
        max_tx_set_size=last.max_tx_set_size,
        skip_list=last.skip_list,
        ext=xdr.LedgerHeaderExt(0),
    )


def _close_value(chain: Chain, tx_set_hash: bytes, close_time: int) -> xdr.StellarValue:
    """The value validators agree on, signed by this network's only node."""
    time = xdr.TimePoint(xdr.Uint64(close_time))
    signed = b"".join(
        (
            chain.network_id,
            xdr.EnvelopeType.ENVELOPE_TYPE_SCPVALUE.to_xdr_bytes(),
            tx_set_hash,
            time.to_xdr_bytes(),
        )
    )
    node = xdr.NodeID(
        xdr.PublicKey(xdr.PublicKeyType.PUBLIC_KEY_TYPE_ED25519, xdr.Uint256(chain.node.raw_public_key()))
    )
    signature = xdr.LedgerCloseValueSignature(node, xdr.Signature(chain.node.sign(signed)))
    kind = xdr.StellarValueType.STELLAR_VALUE_SIGNED
    return xdr.StellarValue(
        xdr.Hash(tx_set_hash), time, [], xdr.StellarValueExt(kind, lc_value_signature=signature)
    )


def _close_meta(
    header: xdr.LedgerHeader,
    tx_set: xdr.GeneralizedTransactionSet,
    processed: list[xdr.TransactionResultMetaV1],
) -> xdr.LedgerCloseMeta:
    entry = xdr.LedgerHeaderHistoryEntry(
        xdr.Hash(header_hash(header)), header, xdr.LedgerHeaderHistoryEntryExt(0)
    )
    return xdr.LedgerCloseMeta(
        2,
        v2=xdr.LedgerCloseMetaV2(
            ext=xdr.LedgerCloseMetaExt(1, v1=xdr.LedgerCloseMetaExtV1(POINT, xdr.Int64(0))),
            ledger_header=entry,
            tx_set=tx_set,
            tx_processing=processed,
            upgrades_processing=[],
            scp_info=[],
            total_byte_size_of_live_soroban_state=xdr.Uint64(0),
            evicted_keys=[],
        ),
    )


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
