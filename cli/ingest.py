"""`custody ingest`: how far each chain is followed, and ranges of its history that an operator has read."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli.figures import figures_console
from cli.ingest_decisions import add_verbs
from cli.platform import FAILED, run_on_platform
from custody import settings
from custody.db.session import Database
from custody.kernel.assetid import ChainId, parse_chain_id
from custody.kernel.ids import show_id
from custody.settings import ChainSettings
from custody.wallets import service as wallets
from ingestion import overview
from ingestion.backfill import service
from ingestion.backfill.model import EVERY_VAULT, Backfill
from ingestion.backfill.run import fill
from ingestion.effects import Tally
from ingestion.errors import BadRange
from ingestion.finality import terms_of
from ingestion.main import build_source
from ingestion.overview import Alarm, Overview, find_alarms
from ingestion.ports import ChainSource, Vouching
from ingestion.reading import hold_reading
from ingestion.reorg import final_height
from ingestion.stellar.worker import WHOLE_LEDGERS

LAG_MAX_BLOCKS = 20
"""So many blocks behind the node's newest are still well."""
LAG_OF_PROVIDERS = 4
"""So many times what a provider may be behind is no alarm either."""
LINE_EVERY_S = 10.0
"""How often progress is told where no bar can be drawn."""
UNKNOWN = "?"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subparsers.add_parser("ingest", help="how far each chain is followed; fill in its history")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    status = verbs.add_parser("status", help="one table; ends with 1 when a chain is behind or has an alarm")
    status.add_argument("--chain", help="only this one")
    status.add_argument("--json", action="store_true", help="print JSON instead of tables")
    status.add_argument(
        "--max-lag",
        type=int,
        help=f"blocks behind that are still well; {LAG_MAX_BLOCKS}, more on fast chains",
    )
    status.set_defaults(run=lambda chosen: run_on_platform(show_status(chosen), "ingest status"))
    backfill = verbs.add_parser(
        "backfill", help="read a range of blocks; without a range, go on with all that are not done"
    )
    backfill.add_argument("--chain", required=True, help="CAIP-2 id of a configured chain")
    backfill.add_argument("--from", dest="first", type=int, help="lowest block")
    backfill.add_argument("--to", dest="last", type=int, help="highest block")
    backfill.add_argument("--account", default=EVERY_VAULT, help="only this vault's; else every vault's")
    backfill.add_argument("--again", action="store_true", help="read the range anew although it is done")
    backfill.set_defaults(run=lambda chosen: run_on_platform(carry_out(chosen), "ingest backfill"))
    add_verbs(verbs)


async def show_status(chosen: argparse.Namespace) -> int:
    """0 when every chain is well, 1 when one is behind or has an alarm, 2 when the database does not answer."""
    configured = settings.load()
    lag_max = {
        parse_chain_id(each.id): chosen.max_lag
        or max(LAG_MAX_BLOCKS, LAG_OF_PROVIDERS * each.provider_lag_max)
        for each in configured.chains
        if chosen.chain in (None, each.id)
    }
    if not lag_max:
        print(f"chain {chosen.chain} is not configured", file=sys.stderr)
        return FAILED
    db = Database(configured.database.url.get_secret_value(), pool_size=2)
    try:
        async with db.read(None) as session:
            seen = [await overview.load(session, chain) for chain in lag_max]
    finally:
        await db.close()
    alarms = {each.chain: find_alarms(each, lag_max=lag_max[each.chain]) for each in seen}
    if chosen.json:
        print(json.dumps({"chains": [as_json(each, alarms[each.chain]) for each in seen]}, indent=2))
    else:
        print_status(seen, alarms, figures_console())
    return 1 if any(alarms.values()) else 0


async def carry_out(chosen: argparse.Namespace) -> int:
    """0 when all is read, 2 when a block is missing or something else is wrong, by its name: what was read is kept."""
    if (chosen.first is None) != (chosen.last is None):
        print("give --from and --to, or neither", file=sys.stderr)
        return FAILED
    configured = settings.load()
    try:
        chain = configured.chain(chosen.chain)
    except LookupError as error:
        print(error, file=sys.stderr)
        return FAILED
    db = Database(configured.database.url.get_secret_value(), pool_size=4)
    source = build_source(chain, db)
    try:
        await source.verify_network()
        async with db.unit_of_work(None) as uow:
            await hold_reading(uow, source.chain, chain.calls_from, may_change=False)
        wanted = await _wanted(db, source, chain, chosen)
        with Told(Console(stderr=True)) as told:
            for backfill in wanted:
                told.begin(backfill)
                stop = asyncio.Event()
                told.end(
                    await fill(
                        db,
                        source,
                        backfill.id,
                        caution=terms_of(chain).untouched(),
                        stop=stop,
                        told=told,
                    )
                )
    finally:
        await source.aclose()
        await db.close()
    return 0


async def _wanted(
    db: Database, source: ChainSource, chain: ChainSettings, chosen: argparse.Namespace
) -> list[Backfill]:
    """The one that is ordered here, or all that are open. Raises BadRange above what is final."""
    if chosen.account != EVERY_VAULT:
        async with db.read(None) as session:
            if not await wallets.find_vaults(session, source.chain, [chosen.account]):
                raise BadRange("no vault has this account", account=chosen.account)
    if chosen.first is None:
        async with db.read(None) as session:
            found = await service.find_open(session, source.chain)
        return [each for each in found if chosen.account in (EVERY_VAULT, each.account)]
    final = await _final_height(source, chain)
    if chosen.last > final:
        raise BadRange(last=chosen.last, final=final)
    async with db.unit_of_work(None) as uow:
        ordered = await service.order(
            uow, source.chain, chosen.account, chosen.first, chosen.last, again=chosen.again
        )
    return [ordered]


async def _final_height(source: ChainSource, chain: ChainSettings) -> int:
    """Up to where blocks are final by the chain's rule."""
    head = await source.head()
    rule, tagged = terms_of(chain).rule, {}
    if rule.tag and isinstance(source, Vouching):
        found = await source.tagged(rule.tag, None)
        tagged = {} if found is None else {rule.tag: found.height}
    return final_height(rule.reached(head.height, tagged), None)


class Told:
    """Shows progress: a bar on a terminal, a line now and then anywhere else."""

    def __init__(self, console: Console) -> None:
        """Nothing is shown yet."""
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} blocks/s"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[deposits]} deposits"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._deposits = 0
        self._told_at = time.monotonic()

    def __enter__(self) -> Told:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, backfill: Backfill) -> None:
        """The next backfill."""
        self._deposits = 0
        self._task = self._bars.add_task(
            f"{service.scope_of(backfill)} {backfill.first}-{backfill.last}",
            total=backfill.blocks,
            completed=backfill.blocks_done,
            rate=UNKNOWN,
            deposits=0,
        )

    def __call__(self, backfill: Backfill, tally: Tally) -> None:
        """A chunk was booked."""
        self._deposits += tally.deposits
        if self._task is not None:
            self._bars.update(
                self._task, completed=backfill.blocks_done, rate=_rate(backfill), deposits=self._deposits
            )
        if not self._console.is_terminal and time.monotonic() - self._told_at >= LINE_EVERY_S:
            self._told_at = time.monotonic()
            self._say(_progress(backfill))

    def end(self, backfill: Backfill) -> None:
        """It is read to its end, or was before."""
        self._say(
            f"{backfill.chain}: {service.scope_of(backfill)}, blocks {backfill.first} to {backfill.last} are read; "
            f"{self._deposits} deposits were new"
        )

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_status(
    seen: Sequence[Overview], alarms: dict[ChainId, tuple[Alarm, ...]], console: Console
) -> None:
    """One row a chain; then the backfills that are not done; then every alarm."""
    table = Table(title="Ingestion", title_justify="left")
    for heading in ("Chain", "Worker", "Since", "Source"):
        table.add_column(heading, overflow="fold")
    for heading in ("Cursor", "Head", "Lag", "Age", "Last block", "Covered"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("State")
    for each in seen:
        table.add_row(*_cells(each), "ALARM" if alarms[each.chain] else "well")
    console.print(table)
    open_ones = [backfill for each in seen for backfill in each.backfills]
    if open_ones:
        table = Table(title="Backfills", title_justify="left")
        for heading in ("Chain", "Whose", "Asked by"):
            table.add_column(heading, overflow="fold")
        for heading in ("From", "To", "Next", "Done", "Blocks/s", "ETA"):
            table.add_column(heading, justify="right", no_wrap=True)
        for backfill in open_ones:
            table.add_row(
                backfill.chain,
                service.scope_of(backfill),
                "registration" if backfill.registered else "operator",
                *(str(height) for height in (backfill.first, backfill.last, backfill.next)),
                f"{100 * backfill.blocks_done // backfill.blocks} %",
                _rate(backfill),
                _span(backfill.eta_s),
            )
        console.print(table)
    for chain, found in alarms.items():
        for alarm in found:
            line = f"ALARM {alarm.code}: {chain}: {alarm.sentence}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if not any(alarms.values()):
        console.print("no alarms")


def as_json(seen: Overview, alarms: Sequence[Alarm]) -> dict[str, object]:
    """One chain for scripts: heights are integers, times ISO 8601, ages seconds."""
    said = seen.report
    return {
        "chain": seen.chain,
        "cursor_height": seen.height,
        "head_height": seen.head,
        "lag_blocks": seen.lag_blocks,
        "blocks_per_s": None if seen.blocks_per_s is None else round(seen.blocks_per_s, 1),
        "eta_s": seen.eta_s,
        "lag_s": None if seen.lag_s is None else round(seen.lag_s, 1),
        "last_block_at": None if seen.closed_at is None else seen.closed_at.isoformat(),
        "worker": None
        if said is None
        else {
            "holder": said.holder,
            "fence": said.fence,
            "since": said.leased_at.isoformat(),
            "reported_s_ago": round(said.age_s, 1),
            "held": seen.is_held,
            "gauges": said.gauges,
        },
        "covered": [list(part) for part in seen.covered],
        "holes": [list(part) for part in seen.holes],
        "registrations_waiting": seen.unnoticed,
        "backfills": [_backfill_json(each) for each in seen.backfills],
        "survey": None
        if seen.survey is None
        else {
            "pass": seen.survey.number,
            "height": seen.survey.height,
            "last_pass_ended_at": None if seen.survey.ended_at is None else seen.survey.ended_at.isoformat(),
            "trouble": seen.survey.trouble or None,
        },
        "halt": None if seen.halt is None else show_id("hlt", seen.halt.id),
        "alarms": [{"code": each.code, "sentence": each.sentence} for each in alarms],
    }


def _backfill_json(backfill: Backfill) -> dict[str, object]:
    rate, eta_s = backfill.blocks_per_s, backfill.eta_s
    return {
        "id": str(backfill.id),
        "account": backfill.account or None,
        "registered": backfill.registered,
        "first": backfill.first,
        "last": backfill.last,
        "next": backfill.next,
        "holder": backfill.holder or None,
        "halted": backfill.halted or None,
        "blocks_per_s": None if rate is None else round(rate, 1),
        "eta_s": None if eta_s is None else round(eta_s),
    }


def _cells(seen: Overview) -> tuple[str, ...]:
    said = seen.report
    held = said is not None and seen.is_held
    return (
        seen.chain,
        said.holder if said is not None and held else "none",
        f"{said.leased_at:%Y-%m-%d %H:%M:%S}" if said is not None and held else "",
        "" if said is None else _sources(said.gauges),
        _known(seen.height),
        _known(seen.head),
        _distance(seen),
        _span(seen.lag_s),
        UNKNOWN if seen.closed_at is None else f"{seen.closed_at:%Y-%m-%d %H:%M:%S}",
        " ".join(f"{first}-{last}" for first, last in seen.covered),
    )


def _sources(gauges: Mapping[str, int]) -> str:
    """What is read from, how far it is trusted, and by whose providers."""
    by_kind: dict[str, list[tuple[str, int]]] = {"source_trust": [], "provider_up": []}
    for name, value in sorted(gauges.items()):
        kind, _, label = name.partition("/")
        if kind in by_kind:
            by_kind[kind].append((label, value))
    trusted = [
        f"{label} ({'whole' if trust == WHOLE_LEDGERS else 'not all proved'})"
        for label, trust in by_kind["source_trust"]
    ]
    providers = [label if up else f"{label} (down)" for label, up in by_kind["provider_up"]]
    return ": ".join(filter(None, (", ".join(trusted), ", ".join(providers))))


def _distance(seen: Overview) -> str:
    """How many blocks behind, and where that is being caught up with, for how long still."""
    blocks = _known(seen.lag_blocks)
    return f"{blocks} ({_span(seen.eta_s)})" if seen.lag_blocks and seen.eta_s is not None else blocks


def _progress(backfill: Backfill) -> str:
    return (
        f"{backfill.chain}: {service.scope_of(backfill)}: {backfill.blocks_done} of {backfill.blocks} blocks, "
        f"{_rate(backfill)} blocks/s, {_span(backfill.eta_s)} left"
    )


def _rate(backfill: Backfill) -> str:
    rate = backfill.blocks_per_s
    return UNKNOWN if rate is None else f"{rate:.1f}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
    )


def _known(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)
