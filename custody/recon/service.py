"""Compare our books with the world and keep what was found."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from custody.audit import service as audit
from custody.chains.ports import ChainClient
from custody.db.session import Database
from custody.events import outbox
from custody.kernel.assetid import ChainId
from custody.kernel.clock import Clock
from custody.kernel.ids import TenantId, new_uuid
from custody.ledger import service as ledger
from custody.recon import store
from custody.recon.banks import BankComparison
from custody.recon.compare import break_of, trial_breaks
from custody.recon.model import ReconReport
from custody.recon.ports import BankStatements
from custody.recon.show import show_break, show_report
from custody.recon.vaults import VaultComparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a difference may last before it is a break: money moves while we look."""

    looks: int = 20
    """How often both sides are read."""
    pause_s: float = 0.5
    """Between two looks."""


async def run(
    db: Database,
    tenant: TenantId,
    clients: Mapping[ChainId, ChainClient],
    statements: BankStatements,
    *,
    clock: Clock,
    patience: Patience,
    ask_nodes: bool = False,
) -> ReconReport:
    """Compare every vault, every bank account and the trial balance of a tenant, and record the run. Vaults are compared with
    what the chain's own entries showed at that height, and with their nodes where none did, or where `ask_nodes`.

    Opens its own transactions: the network is asked between them, never within one.
    """
    started_at = clock.now()
    vaults = VaultComparison(db, tenant, clients, ask_nodes=ask_nodes)
    banks = BankComparison(db, tenant, statements, started_at.date())
    for look in range(patience.looks):
        if look > 0:
            await asyncio.sleep(patience.pause_s)
        if not vaults.done:
            await vaults.look()
        if not banks.done:
            await banks.look()
        if vaults.done and banks.done:
            break
    halted = await vaults.halted()
    async with db.read(tenant) as session:
        trial_balance = await ledger.trial_balance(session)
    rows = (*vaults.rows(), *banks.rows())
    row_breaks = tuple(found for row in rows if (found := break_of(row)) is not None)
    report = ReconReport(
        run_id=new_uuid(),
        tenant=tenant,
        started_at=started_at,
        finished_at=clock.now(),
        rows=rows,
        breaks=(*trial_breaks(trial_balance), *halted, *row_breaks, *banks.line_breaks()),
        trial_balance=trial_balance,
    )
    await _record(db, report)
    return report


async def _record(db: Database, report: ReconReport) -> None:
    async with db.unit_of_work(report.tenant) as uow:
        await store.insert_run(uow, report, show_report(report))
        for found in report.breaks:
            await outbox.emit(
                uow, "recon.break_found", report.run_id, {"run_id": str(report.run_id), **show_break(found)}
            )
        await audit.record(
            uow, "recon", "recon.run", report.run_id, {"rows": len(report.rows), "breaks": len(report.breaks)}
        )
