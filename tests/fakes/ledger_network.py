"""A local Stellar network with payments in its ledgers, and readers of it that need no database."""

from __future__ import annotations

from collections.abc import Collection

from stellar_sdk import Account, Asset, Keypair, MuxedAccount, TransactionBuilder

from custody.kernel.assetid import ChainId
from custody.kernel.clock import SystemClock
from devnet.stellar.network import LocalNetwork
from ingestion.metrics import Metrics
from ingestion.model import BlockFacts
from ingestion.stellar.movements import EventReader
from ingestion.stellar.read import LedgerReader

CHAIN = ChainId("stellar:devnet")
RECEIVER = Keypair.from_raw_ed25519_seed(b"\x11" * 32)
"""Who is paid in every third ledger."""


def open_reader(
    network: LocalNetwork,
    *,
    passphrase: str = "",
    ours: Collection[str] = (RECEIVER.public_key,),
    audit: bool = True,
) -> LedgerReader:
    """Reads what the network's ledgers did to these accounts, every transaction proved."""

    async def watch(named: frozenset[str]) -> frozenset[str]:
        return named & frozenset(ours)

    return LedgerReader(CHAIN, EventReader(passphrase or network.passphrase), watch, audit=audit)


def open_metrics() -> Metrics:
    return Metrics(CHAIN, SystemClock())


def shown(metrics: Metrics, series: str) -> float:
    """The value of a series, named as Prometheus shows it without the prefix."""
    for line in metrics.text().decode().splitlines():
        name, _, value = line.rpartition(" ")
        if name == f"custody_ingestion_{series}":
            return float(value)
    raise LookupError(series)


def close_ledgers(network: LocalNetwork, count: int) -> None:
    """Close so many more, with a payment to the receiver in every third."""
    for _ in range(count):
        if network.latest.sequence % 3 == 0:
            _pay(network, network.latest.sequence)
        network.close()


def open_network(ledgers: int = 30) -> LocalNetwork:
    """A network whose newest ledger has this number; the receiver is there from ledger 3 on."""
    network = LocalNetwork()
    network.fund(RECEIVER.public_key)
    network.close()
    close_ledgers(network, ledgers - network.latest.sequence)
    return network


async def read_all(network: LocalNetwork, first: int, last: int) -> list[BlockFacts]:
    """What the ledgers say, straight from the network: what every source must say."""
    metas = [each.meta for each in network.ledgers(first, last - first + 1)]
    return await open_reader(network).read(metas, first)


def _pay(network: LocalNetwork, amount: int) -> None:
    payer = network.friendbot
    sequence = _sequence(network, payer)
    destination = MuxedAccount(RECEIVER.public_key, amount).account_muxed or ""
    envelope = (
        TransactionBuilder(Account(payer.public_key, sequence), network.passphrase, base_fee=100)
        .append_payment_op(destination, Asset.native(), "0.0000001")
        # Without a time bound: the ledger that takes it may close any time later. (A timeout of 0 is over at the next second.)
        .add_time_bounds(0, 0)
        .build()
    )
    envelope.sign(payer)
    answer = network.submit(envelope.to_xdr())
    assert answer["status"] == "PENDING", answer


def _sequence(network: LocalNetwork, payer: Keypair) -> int:
    return next(
        int(each.seq)
        for each in network.entries()
        if getattr(each, "account", None) == payer.raw_public_key() and hasattr(each, "seq")
    )
