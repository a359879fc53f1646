"""Put together what a worker for a Stellar network reads from."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.kernel.assetid import parse_chain_id
from custody.settings import ChainSettings
from ingestion import failover
from ingestion.metrics import Metrics
from ingestion.ports import ChainSource
from ingestion.stellar import history
from ingestion.stellar.lake import LakeLedgers
from ingestion.stellar.movements import EventReader
from ingestion.stellar.read import LedgerReader
from ingestion.stellar.sources import RpcLedgers
from ingestion.watch import build_watch


def build_source(settings: ChainSettings, db: Database, metrics: Metrics) -> ChainSource:
    """The ledgers of the configured network: the lake's and the providers'."""
    reader = build_reader(settings, db)
    urls = (settings.rpc_url, *settings.other_rpc_urls)
    keepers = [RpcLedgers(JsonRpc(url, timeout_s=settings.provider_timeout_s), reader) for url in urls]
    tip = failover.Failover(
        list(zip(name_providers(urls), keepers, strict=True)),
        failover.Terms(
            timeout_s=settings.provider_timeout_s,
            lag_max=settings.provider_lag_max,
            agreement_required=settings.agreement_required,
        ),
        metrics,
    )
    lake = build_lake(settings, reader)
    metrics.trusts("rpc", proves=True)
    if lake is not None:
        metrics.trusts("lake", proves=True)
    terms = history.Terms(
        behind_ledgers=0 if settings.lake is None else settings.lake.behind_ledgers,
        alarm_percent=settings.retention_alarm_percent,
    )
    return history.HistoryThenTip(tip, keepers, lake, terms, metrics)


def build_reader(settings: ChainSettings, db: Database) -> LedgerReader:
    """Reads ledgers of the configured network; which accounts are ours is asked of the database each time."""
    chain = parse_chain_id(settings.id)
    events = EventReader(settings.network_passphrase, settings.token_contracts)
    return LedgerReader(chain, events, build_watch(chain, db), audit=settings.audit_ledgers)


def build_lake(settings: ChainSettings, reader: LedgerReader) -> LakeLedgers | None:
    """The configured lake, if there is one. One for each who reads: it fetches ahead of whom it serves."""
    return None if settings.lake is None else LakeLedgers(settings.lake, reader)


def name_providers(urls: tuple[str, ...]) -> list[str]:
    """Names for people and metrics: the host, since what follows it may be a key; numbered where a host serves several."""
    hosts = [urlsplit(url).netloc.rpartition("@")[2] for url in urls]
    seen: Counter[str] = Counter()
    names = []
    for host in hosts:
        seen[host] += 1
        names.append(host if seen[host] == 1 else f"{host} #{seen[host]}")
    return names
