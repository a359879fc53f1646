"""Put together what a worker for a Stellar network reads from."""

from __future__ import annotations

import structlog

from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.kernel.assetid import parse_chain_id
from custody.kernel.clock import SystemClock
from custody.settings import ChainSettings
from ingestion import failover
from ingestion.metrics import Metrics
from ingestion.ports import ChainSource
from ingestion.providers import name_providers
from ingestion.stellar import history
from ingestion.stellar.horizon import HorizonLedgers
from ingestion.stellar.lake import LakeLedgers
from ingestion.stellar.movements import EventReader
from ingestion.stellar.read import LedgerReader
from ingestion.stellar.sources import RpcLedgers
from ingestion.watch import build_watch

WHOLE_LEDGERS, ASSEMBLED_LEDGERS = 2, 1
"""How far a source is trusted: it gives core's own bytes, or rows of which they are put together."""

_log = structlog.get_logger(__name__)


def build_source(settings: ChainSettings, db: Database, metrics: Metrics | None = None) -> ChainSource:
    """The ledgers of the configured network: the lake's and the providers', or Horizon's.

    The live loop's source tells the worker's `metrics` how its providers fare; one built beside it, to fill history, does not.
    """
    reader = build_reader(settings, db)
    metrics = metrics or Metrics(reader.chain, SystemClock())
    if settings.horizon_url:
        return _build_horizon(settings, reader, metrics)
    urls = (settings.rpc_url, *settings.other_rpc_urls)
    keepers = [RpcLedgers(JsonRpc(url, timeout_s=settings.provider_timeout_s), reader) for url in urls]
    tip = failover.Failover(
        list(zip(name_providers(urls), keepers, strict=True)),
        _provider_terms(settings),
        metrics,
    )
    lake = build_lake(settings, reader)
    for source in ("rpc",) if lake is None else ("rpc", "lake"):
        metrics.trusts(source, WHOLE_LEDGERS)
    terms = history.Terms(
        behind_ledgers=0 if settings.lake is None else settings.lake.behind_ledgers,
        alarm_percent=settings.retention_alarm_percent,
    )
    return history.HistoryThenTip(tip, keepers, lake, terms, metrics)


def _build_horizon(settings: ChainSettings, reader: LedgerReader, metrics: Metrics) -> ChainSource:
    _log.warning("ingestion.lower_trust", chain=settings.id, source="horizon")
    metrics.trusts("horizon", ASSEMBLED_LEDGERS)
    (name,) = name_providers((settings.horizon_url,))
    source = HorizonLedgers(settings.horizon_url, reader, timeout_s=settings.provider_timeout_s)
    return failover.Failover([(name, source)], _provider_terms(settings), metrics)


def _provider_terms(settings: ChainSettings) -> failover.Terms:
    return failover.Terms(
        timeout_s=settings.provider_timeout_s,
        lag_max=settings.provider_lag_max,
        agreement_required=settings.agreement_required,
    )


def build_reader(settings: ChainSettings, db: Database) -> LedgerReader:
    """Reads ledgers of the configured network; which accounts are ours is asked of the database each time."""
    chain = parse_chain_id(settings.id)
    events = EventReader(settings.network_passphrase, settings.token_contracts)
    return LedgerReader(chain, events, build_watch(chain, db), audit=settings.audit_ledgers)


def build_lake(settings: ChainSettings, reader: LedgerReader) -> LakeLedgers | None:
    """The configured lake, if there is one. One for each who reads: it fetches ahead of whom it serves."""
    return None if settings.lake is None else LakeLedgers(settings.lake, reader)
