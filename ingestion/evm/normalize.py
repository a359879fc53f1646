"""An EVM block turned into facts. Pure: JSON-RPC values in, frozen values out.

Tokens move by Transfer logs with three topics (ERC-721 has a fourth), and wrapped ether by its Deposit and Withdrawal too. Ether
moves by the value of successful transactions, inside calls as tracers tell it (`inner`), and by withdrawals of the beacon chain.
What balances tell beyond this is added by `balances`.
Source: Ethereum JSON-RPC specification; ERC-20; WETH9; EIP-658 (status); EIP-1559 (effective gas price); EIP-4844 (blob gas);
EIP-4895 (withdrawals); the OP Stack specification, "L1 fees". Arbitrum's `gasUsedForL1` is a part of `gasUsed` already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from custody.chains.errors import RpcUnreadable
from custody.chains.evm.abi import (
    DEPOSIT_TOPIC,
    TRANSFER_TOPIC,
    UPGRADED_TOPIC,
    WITHDRAWAL_TOPIC,
    parse_quantity,
    parse_word,
    topic_address,
)
from custody.chains.evm.address import ZERO, checksum
from custody.kernel.assetid import AssetId, ChainId, native
from ingestion.evm.inner import InnerTransfer
from ingestion.model import BlockFacts, BlockRef, ChainTransaction, Departure, Movement

BLOCK = "eth_getBlockByNumber"
LOGS = "logs of a receipt"
RECEIPT = "eth_getTransactionReceipt"
NATIVE_ORDINAL = 0
"""A transaction's own value; its logs count from 1."""
INNER_ORDINAL = 1 << 32
"""Value inside calls counts from here: no transaction has so many logs."""
GWEI = 10**9
"""Withdrawals count in it. Source: EIP-4895."""
READ_TOPICS = (TRANSFER_TOPIC, DEPOSIT_TOPIC, WITHDRAWAL_TOPIC, UPGRADED_TOPIC)
"""Logs of other kinds are not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTransfer:
    """One ERC-20 Transfer log."""

    tx_hash: str
    log_index: int
    """Place in the block; the place in the transaction is what stays the same elsewhere."""
    contract: str
    source: str
    """Lower-case, as all addresses here; the zero address where tokens are minted."""
    destination: str
    amount: int


def block_ref(block: Mapping[str, Any]) -> BlockRef:
    """The block's place in its chain. Raises RpcUnreadable."""
    return BlockRef(
        height=parse_quantity(BLOCK, block.get("number")),
        hash=_hash(BLOCK, block.get("hash")),
        parent_hash=_hash(BLOCK, block.get("parentHash")),
        closed_at=datetime.fromtimestamp(parse_quantity(BLOCK, block.get("timestamp")), UTC),
    )


def token_transfers(
    logs: Iterable[Mapping[str, Any]], wrapped: frozenset[str] = frozenset()
) -> list[TokenTransfer]:
    """The token transfers among logs, in order. Logs of another shape are no ERC-20 transfers and are passed over.

    `wrapped` names, in lower case, the contracts whose Deposit and Withdrawal make and burn tokens. One that emits a Transfer
    from or to zero beside it says the same twice: it counts once.
    """
    found: list[TokenTransfer] = []
    doubled: list[TokenTransfer] = []
    for log in logs:
        topics = log.get("topics") or []
        data = log.get("data")
        if not isinstance(data, str) or len(data) != 66 or not topics:
            continue
        if len(topics) == 3 and topics[0] == TRANSFER_TOPIC:
            found.append(_transfer(log, topic_address(topics[1]), topic_address(topics[2])))
        elif len(topics) == 2 and str(log["address"]).lower() in wrapped:
            account = topic_address(topics[1])
            if topics[0] == DEPOSIT_TOPIC:
                doubled.append(_transfer(log, ZERO, account))
            elif topics[0] == WITHDRAWAL_TOPIC:
                doubled.append(_transfer(log, account, ZERO))
    said = {_content(each) for each in found}
    found += [each for each in doubled if _content(each) not in said]
    return sorted(found, key=lambda each: each.log_index)


def _content(each: TokenTransfer) -> tuple[str, str, str, str, int]:
    return each.tx_hash, each.contract, each.source, each.destination, each.amount


def _transfer(log: Mapping[str, Any], source: str, destination: str) -> TokenTransfer:
    return TokenTransfer(
        tx_hash=_hash(LOGS, log.get("transactionHash")),
        log_index=parse_quantity(LOGS, log.get("logIndex")),
        contract=str(log["address"]).lower(),
        source=source,
        destination=destination,
        amount=parse_word(LOGS, log["data"]),
    )


def named_accounts(
    block: Mapping[str, Any],
    transfers: Iterable[TokenTransfer],
    inner: Iterable[InnerTransfer] = (),
) -> frozenset[str]:
    """Every account whose money the block may have moved, in EIP-55: what is compared with our vaults."""
    plain: set[str] = set()
    for tx in block["transactions"]:
        plain.add(str(tx["from"]).lower())
        if tx.get("to") is not None:
            plain.add(str(tx["to"]).lower())
    plain.update(side for each in transfers for side in (each.source, each.destination))
    plain.update(side for each in inner for side in (each.source, each.destination))
    plain.update(str(each["address"]).lower() for each in block.get("withdrawals") or [])
    if block.get("miner") is not None and block["transactions"]:
        plain.add(str(block["miner"]).lower())
    return frozenset(checksum(each) for each in plain)


def hinted_accounts(block: Mapping[str, Any], logs: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Addresses that stand in call data and in topics of any log: whom a contract may have paid where no traces are had.

    Words that begin with twelve zero bytes, as the ABI writes addresses; four zero bytes more are taken for a number.
    """
    words = [topic[2:] for log in logs for topic in log.get("topics") or []]
    for tx in block["transactions"]:
        data = str(tx.get("input") or "0x")[10:]
        words += [data[start : start + 64] for start in range(0, len(data) - 63, 64)]
    return frozenset(
        checksum("0x" + word[24:])
        for word in {each.lower() for each in words}
        if word.startswith("0" * 24) and not word.startswith("0" * 32)
    )


def relevant_hashes(
    block: Mapping[str, Any],
    transfers: Iterable[TokenTransfer],
    ours: frozenset[str],
    inner: Iterable[InnerTransfer] = (),
) -> list[str]:
    """The transactions that touch our vaults, in block order."""
    watched = {each.lower() for each in ours}
    sides = [(each.tx_hash, each.source, each.destination) for each in transfers]
    sides += [(each.tx_hash, each.source, each.destination) for each in inner]
    named = {tx_hash for tx_hash, source, destination in sides if source in watched or destination in watched}
    return [
        tx["hash"].lower()
        for tx in block["transactions"]
        if tx["hash"].lower() in named
        or str(tx["from"]).lower() in watched
        or str(tx.get("to") or "").lower() in watched
    ]


def normalize(
    chain: ChainId,
    block: Mapping[str, Any],
    receipts: Mapping[str, Mapping[str, Any]],
    ours: frozenset[str],
    *,
    inner: Sequence[InnerTransfer] = (),
    wrapped: frozenset[str] = frozenset(),
) -> BlockFacts:
    """What the block did to our vaults. `receipts` holds at least those of `relevant_hashes`, `inner` what tracers told.

    Raises RpcUnreadable when a receipt belongs to another block or to another transaction.
    """
    ref = block_ref(block)
    watched = {each.lower() for each in ours}
    movements = _withdrawn(chain, block, watched)
    departures: list[Departure] = []
    transactions: list[ChainTransaction] = []
    for tx in block["transactions"]:
        receipt = receipts.get(tx["hash"].lower())
        if receipt is None:
            continue
        if _hash(RECEIPT, receipt.get("blockHash")) != ref.hash:
            raise RpcUnreadable(method=RECEIPT, reason="a receipt of another block")
        if _hash(RECEIPT, receipt.get("transactionHash")) != tx["hash"].lower():
            raise RpcUnreadable(method=RECEIPT, reason="a receipt of another transaction")
        called = [each for each in inner if each.tx_hash == tx["hash"].lower()]
        for movement, departure in _moved(chain, tx, receipt, called, wrapped):
            if movement is not None and movement.account.lower() in watched:
                movements.append(movement)
            if departure is not None and departure.account.lower() in watched:
                departures.append(departure)
        if str(tx["from"]).lower() in watched:
            transactions.append(_transaction(tx, receipt))
    return BlockFacts(
        ref=ref, movements=tuple(movements), departures=tuple(departures), transactions=tuple(transactions)
    )


def _withdrawn(chain: ChainId, block: Mapping[str, Any], watched: set[str]) -> list[Movement]:
    """Withdrawals of the beacon chain: ether without a transaction, placed by their number. Source: EIP-4895."""
    return [
        Movement(
            tx_hash=f"withdrawal:{parse_quantity(BLOCK, each.get('index'))}",
            ordinal=0,
            asset=native(chain),
            source="",
            account=checksum(str(each["address"])),
            tag=None,
            memo="",
            amount=parse_quantity(BLOCK, each.get("amount")) * GWEI,
        )
        for each in block.get("withdrawals") or []
        if str(each["address"]).lower() in watched and parse_quantity(BLOCK, each.get("amount"))
    ]


def _moved(
    chain: ChainId,
    tx: Mapping[str, Any],
    receipt: Mapping[str, Any],
    inner: Sequence[InnerTransfer],
    wrapped: frozenset[str],
) -> list[tuple[Movement | None, Departure | None]]:
    """Both sides of everything that a transaction moved. A failed transaction moves nothing; nor does a transfer of nothing."""
    if not _succeeded(receipt):
        return []
    tx_hash = tx["hash"].lower()
    moved = []
    value = parse_quantity(BLOCK, tx.get("value"))
    destination = tx.get("to") or receipt.get("contractAddress")
    if value > 0:
        if destination is None:
            raise RpcUnreadable(method=RECEIPT, reason="a creation without its contract")
        moved.append(_sides(native(chain), tx_hash, NATIVE_ORDINAL, str(tx["from"]), str(destination), value))
    moved += [
        _sides(native(chain), tx_hash, INNER_ORDINAL + each.place, each.source, each.destination, each.amount)
        for each in inner
    ]
    logs = receipt.get("logs") or []
    first = parse_quantity(RECEIPT, logs[0].get("logIndex")) if logs else 0
    for transfer in token_transfers(logs, wrapped):
        if transfer.amount > 0:
            asset = AssetId(chain, f"erc20:{checksum(transfer.contract)}")
            ordinal = 1 + transfer.log_index - first
            moved.append(
                _sides(asset, tx_hash, ordinal, transfer.source, transfer.destination, transfer.amount)
            )
    return moved


def _sides(
    asset: AssetId, tx_hash: str, ordinal: int, source: str, destination: str, amount: int
) -> tuple[Movement | None, Departure | None]:
    """The arrival and the departure; minted tokens depart from nobody, burned ones arrive at nobody."""
    minted, burned = source.lower() == ZERO, destination.lower() == ZERO
    arrival = Movement(
        tx_hash=tx_hash,
        ordinal=ordinal,
        asset=asset,
        source="" if minted else checksum(source),
        account=checksum(destination),
        tag=None,
        memo="",
        amount=amount,
    )
    departure = Departure(tx_hash=tx_hash, asset=asset, account=checksum(source), amount=amount)
    return None if burned else arrival, None if minted else departure


def _transaction(tx: Mapping[str, Any], receipt: Mapping[str, Any]) -> ChainTransaction:
    """The sender's view. The OP Stack charges for the layer below beside the gas (`l1Fee`), blobs have a gas of their own."""
    gas = parse_quantity(RECEIPT, receipt.get("gasUsed"))
    price = parse_quantity(RECEIPT, receipt.get("effectiveGasPrice"))
    layer_one = parse_quantity(RECEIPT, receipt.get("l1Fee") or "0x0")
    blobs = parse_quantity(RECEIPT, receipt.get("blobGasUsed") or "0x0") * parse_quantity(
        RECEIPT, receipt.get("blobGasPrice") or "0x0"
    )
    return ChainTransaction(
        tx_hash=tx["hash"].lower(),
        carrier_hash=tx["hash"].lower(),
        account=checksum(str(tx["from"])),
        succeeded=_succeeded(receipt),
        fee_atomic=gas * price + layer_one + blobs,
        sequence=parse_quantity(BLOCK, tx.get("nonce")),
    )


def _succeeded(receipt: Mapping[str, Any]) -> bool:
    return parse_quantity(RECEIPT, receipt.get("status")) == 1


def _hash(method: str, value: object) -> str:
    if not isinstance(value, str) or len(value) != 66:
        raise RpcUnreadable(method=method, reason="expected a 32-byte hash")
    return value.lower()
