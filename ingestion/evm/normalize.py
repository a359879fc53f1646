"""An EVM block turned into facts. Pure: JSON-RPC values in, frozen values out.

Tokens move by Transfer logs with three topics (ERC-721 has a fourth). Ether moves by the value of successful transactions; what
contracts send by inner calls shows in no log and is not seen here.
Source: Ethereum JSON-RPC specification; ERC-20; EIP-658 (status); EIP-1559 (effective gas price).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from custody.chains.errors import RpcUnreadable
from custody.chains.evm.abi import TRANSFER_TOPIC, parse_quantity, parse_word, topic_address
from custody.chains.evm.address import ZERO, checksum
from custody.kernel.assetid import AssetId, ChainId, native
from ingestion.model import BlockFacts, BlockRef, ChainTransaction, Departure, Movement

BLOCK = "eth_getBlockByNumber"
LOGS = "eth_getLogs"
RECEIPT = "eth_getTransactionReceipt"
NATIVE_ORDINAL = 0
"""A transaction's own value; its logs count from 1."""


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


def token_transfers(logs: Iterable[Mapping[str, Any]]) -> list[TokenTransfer]:
    """The ERC-20 transfers among logs, in order. Logs of another shape are not ERC-20 and are passed over."""
    found = []
    for log in logs:
        topics = log.get("topics") or []
        data = log.get("data")
        if len(topics) != 3 or topics[0] != TRANSFER_TOPIC or not isinstance(data, str) or len(data) != 66:
            continue
        found.append(
            TokenTransfer(
                tx_hash=_hash(LOGS, log.get("transactionHash")),
                log_index=parse_quantity(LOGS, log.get("logIndex")),
                contract=str(log["address"]).lower(),
                source=topic_address(topics[1]),
                destination=topic_address(topics[2]),
                amount=parse_word(LOGS, data),
            )
        )
    return found


def named_accounts(block: Mapping[str, Any], logs: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Every account whose money the block may have moved, in EIP-55: what is compared with our vaults."""
    plain: set[str] = set()
    for tx in block["transactions"]:
        plain.add(str(tx["from"]).lower())
        if tx.get("to") is not None:
            plain.add(str(tx["to"]).lower())
    for transfer in token_transfers(logs):
        plain.update((transfer.source, transfer.destination))
    return frozenset(checksum(each) for each in plain)


def relevant_hashes(
    block: Mapping[str, Any], logs: Iterable[Mapping[str, Any]], ours: frozenset[str]
) -> list[str]:
    """The transactions that touch our vaults, in block order: those whose receipts are needed."""
    watched = {each.lower() for each in ours}
    by_logs = {
        each.tx_hash
        for each in token_transfers(logs)
        if each.source in watched or each.destination in watched
    }
    return [
        tx["hash"].lower()
        for tx in block["transactions"]
        if tx["hash"].lower() in by_logs
        or str(tx["from"]).lower() in watched
        or str(tx.get("to") or "").lower() in watched
    ]


def normalize(
    chain: ChainId,
    block: Mapping[str, Any],
    receipts: Mapping[str, Mapping[str, Any]],
    ours: frozenset[str],
) -> BlockFacts:
    """What the block did to our vaults. `receipts` holds those of `relevant_hashes`; their logs are the logs that count.

    Raises RpcUnreadable when a receipt belongs to another block or to another transaction.
    """
    ref = block_ref(block)
    watched = {each.lower() for each in ours}
    movements: list[Movement] = []
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
        for movement, departure in _moved(chain, tx, receipt):
            if movement is not None and movement.account.lower() in watched:
                movements.append(movement)
            if departure is not None and departure.account.lower() in watched:
                departures.append(departure)
        if str(tx["from"]).lower() in watched:
            transactions.append(_transaction(tx, receipt))
    return BlockFacts(
        ref=ref, movements=tuple(movements), departures=tuple(departures), transactions=tuple(transactions)
    )


def _moved(
    chain: ChainId, tx: Mapping[str, Any], receipt: Mapping[str, Any]
) -> list[tuple[Movement | None, Departure | None]]:
    """Both sides of everything that a transaction moved. A failed transaction moves nothing."""
    if not _succeeded(receipt):
        return []
    tx_hash = tx["hash"].lower()
    moved = []
    value = parse_quantity(BLOCK, tx.get("value"))
    if value > 0 and tx.get("to") is not None:
        moved.append(_sides(native(chain), tx_hash, NATIVE_ORDINAL, str(tx["from"]), str(tx["to"]), value))
    logs = receipt.get("logs") or []
    first = parse_quantity(RECEIPT, logs[0].get("logIndex")) if logs else 0
    for transfer in token_transfers(logs):
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
    """The sender's view. Rollups that charge for the layer below say so in the receipt (`l1Fee`)."""
    gas = parse_quantity(RECEIPT, receipt.get("gasUsed"))
    price = parse_quantity(RECEIPT, receipt.get("effectiveGasPrice"))
    layer_one = parse_quantity(RECEIPT, receipt.get("l1Fee") or "0x0")
    return ChainTransaction(
        tx_hash=tx["hash"].lower(),
        carrier_hash=tx["hash"].lower(),
        account=checksum(str(tx["from"])),
        succeeded=_succeeded(receipt),
        fee_atomic=gas * price + layer_one,
        sequence=parse_quantity(BLOCK, tx.get("nonce")),
    )


def _succeeded(receipt: Mapping[str, Any]) -> bool:
    return parse_quantity(RECEIPT, receipt.get("status")) == 1


def _hash(method: str, value: object) -> str:
    if not isinstance(value, str) or len(value) != 66:
        raise RpcUnreadable(method=method, reason="expected a 32-byte hash")
    return value.lower()
