"""A report in JSON values: what is stored, printed and told. Amounts are strings of atomic units. Pure."""

from __future__ import annotations

from custody.recon.model import ReconBreak, ReconReport, ReconRow


def show_report(report: ReconReport) -> dict[str, object]:
    """The whole report."""
    return {
        "tenant": int(report.tenant),
        "run_id": str(report.run_id),
        "breaks": [show_break(found) for found in report.breaks],
        "rows": [show_row(row) for row in report.rows],
        "trial_balance": {asset.text: str(value) for asset, value in sorted(report.trial_balance.items())},
    }


def show_row(row: ReconRow) -> dict[str, object]:
    """One holding."""
    return {
        "owner": row.holding.owner,
        "owner_id": str(row.holding.owner_id),
        "asset": row.holding.asset.text,
        "books": str(row.books),
        "opening": str(row.opening),
        "waiting": str(row.waiting),
        "outside": _text(row.outside),
        "difference": _text(row.difference),
        "at": row.at,
    }


def show_break(found: ReconBreak) -> dict[str, object]:
    """One break."""
    return {
        "kind": found.kind.value,
        "owner": found.owner,
        "owner_id": None if found.owner_id is None else str(found.owner_id),
        "asset": found.asset.text,
        "books": str(found.books),
        "outside": _text(found.outside),
        "detail": found.detail,
    }


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)
