"""SQL of reconciliation."""

from __future__ import annotations

from sqlalchemy import insert

from custody.db.session import UnitOfWork
from custody.recon.model import ReconReport
from custody.recon.tables import recon_breaks, recon_runs


async def insert_run(uow: UnitOfWork, report: ReconReport, shown: dict[str, object]) -> None:
    """Keep a run and its breaks. `shown` is the report in JSON values."""
    await uow.conn.execute(
        insert(recon_runs).values(
            tenant_id=uow.tenant,
            id=report.run_id,
            started_at=report.started_at,
            finished_at=report.finished_at,
            breaks=len(report.breaks),
            report=shown,
        )
    )
    for number, found in enumerate(report.breaks, start=1):
        await uow.conn.execute(
            insert(recon_breaks).values(
                tenant_id=uow.tenant,
                run_id=report.run_id,
                number=number,
                kind=found.kind.value,
                owner=found.owner,
                owner_id=found.owner_id,
                asset=found.asset.text,
                books=found.books,
                outside=found.outside,
                detail=found.detail,
            )
        )
