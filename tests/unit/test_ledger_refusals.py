"""The page of refusals says what the code says: every code, its status and whether to repeat."""

from __future__ import annotations

import inspect
from pathlib import Path

from api.errors import status_of
from custody.kernel.errors import CustodyError
from custody.ledger import errors
from custody.ledger.model import ResultCode

PAGE = Path(__file__).parent.parent.parent / "docs" / "ledger-refusals.md"


def rows() -> dict[str, list[str]]:
    """The page's table by code."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = {code.strip("`"): rest for code, *rest in cells}
    assert len(found) == len(lines)
    return found


def raised() -> dict[str, type[CustodyError]]:
    """Every error that the ledger's errors define or hand on, by code."""
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    concrete = [kind for kind in classes if issubclass(kind, CustodyError)]
    own = [kind for kind in concrete if kind.__module__ != "custody.kernel.errors"]
    return {kind.code: kind for kind in own}


def test_the_page_lists_every_refusal_and_no_other() -> None:
    results = {code.value for code in ResultCode} - {"applied"}
    assert results - set(raised()) == set()
    assert set(rows()) == results | set(raised())


def test_the_page_has_the_status_and_whether_to_repeat() -> None:
    told = {code: (cells[0], cells[1]) for code, cells in rows().items()}
    assert told == {
        code: (str(status_of(kind())), "yes" if kind.retryable else "no") for code, kind in raised().items()
    }


def test_the_page_says_what_to_do_each_time() -> None:
    assert {code for code, cells in rows().items() if len(cells) != 4 or not all(cells)} == set()
