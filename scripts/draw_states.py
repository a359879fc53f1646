"""Write docs/states.md from the transition tables: a picture and the reason for every move. `--check` fails when it is stale."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path

from custody.kernel.transitions import TransitionTable
from scripts.draw_lifecycle import PICTURE
from scripts.draw_lifecycle import draw as draw_lifecycle

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "states.md"
INTRODUCTION = (
    "Drawn from `*/transitions.py` by `make states`; the same tables guard the SQL and are tested "
    "over every state and event.\n"
)
_ROW = re.compile(r'((?:^\s*#[^\n]*\n)+)\s*Transition\(\s*"(\w+)",\s*"(\w+)",\s*"(\w+)",?\s*\)', re.MULTILINE)


def draw() -> str:
    """The page."""
    parts = [
        "# State machines\n",
        INTRODUCTION,
    ]
    for file in sorted(ROOT.glob("custody/*/transitions.py")):
        if file.parent.name == "kernel":
            continue
        module = importlib.import_module(f"custody.{file.parent.name}.transitions")
        reasons = reasons_in(inspect.getsource(module))
        tables = [value for value in vars(module).values() if isinstance(value, TransitionTable)]
        parts += [section(file.parent.name, table, reasons) for table in tables]
    return "\n".join(parts)


def reasons_in(source: str) -> dict[tuple[str, str, str], str]:
    """The comment above each row."""
    found = {}
    for comment, *row in _ROW.findall(source):
        lines = [line.strip().lstrip("#").strip() for line in comment.strip().splitlines()]
        found[tuple(row)] = " ".join(lines)
    return found


def section(context: str, table: TransitionTable, reasons: dict[tuple[str, str, str], str]) -> str:
    """One machine: its picture, then its rows."""
    arrows = [f"    {row.source} --> {row.target}: {row.event}" for row in table.rows]
    ends = [f"    {state} --> [*]" for state in table.states if state in table.terminal]
    rows = [
        f"| {row.source} | {row.event} | {row.target} | {reasons.get((row.source, row.event, row.target), '')} |"
        for row in table.rows
    ]
    return "\n".join(
        [
            f"## {table.name} (`custody/{context}`)\n",
            "```mermaid",
            "stateDiagram-v2",
            f"    [*] --> {table.initial}",
            *arrows,
            *ends,
            "```\n",
            "| from | event | to | when |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main(argv: list[str]) -> int:
    """Write the page and the picture of a withdrawal's life, or say which of the committed ones is stale."""
    stale = [
        file for file, content in ((PAGE, draw()), (PICTURE, draw_lifecycle())) if _differs(file, content)
    ]
    if "--check" in argv:
        for file in stale:
            print(f"docs/{file.name} is stale: run `make states`", file=sys.stderr)
        return 1 if stale else 0
    PAGE.write_text(draw(), encoding="utf-8")
    PICTURE.write_text(draw_lifecycle(), encoding="utf-8")
    return 0


def _differs(file: Path, content: str) -> bool:
    return not file.exists() or file.read_text(encoding="utf-8") != content


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
