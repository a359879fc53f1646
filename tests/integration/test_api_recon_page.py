"""The page of books against chain, in a real browser: what it draws, and that it shows nothing to whoever has no key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from custody.db.session import Database
from tests.fakes.browser import Browser, find_browser
from tests.integration.api_harness import FUNDS, Harness, running
from tests.integration.api_server import served
from tests.integration.test_api_holdings import break_and_mend, settle_at

PROGRAM = find_browser()
needs_browser = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium on this machine (apt-get install chromium)"
)


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(str(PROGRAM), tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def look(browser: Browser, url: str, token: str) -> str:
    """Open the page with a key; all that it says."""
    browser.open(f"{url}/recon")
    browser.evaluate(f"at('token').value = {json.dumps(token)}; at('show').click()")
    browser.wait_for("at('said').textContent || document.querySelectorAll('.draw path.chain').length")
    return str(browser.evaluate("at('said').textContent + at('all').innerText"))


@needs_browser
async def test_the_page_draws_both_sides_and_names_what_differs(api: Harness, browser: Browser) -> None:
    await break_and_mend(api)
    await settle_at(api, 40, FUNDS, FUNDS - 5, 0)
    async with served(api.asgi) as address:
        refused = await asyncio.to_thread(look, browser, address, "no-such-key")
        assert "API key" in refused
        shown = await asyncio.to_thread(look, browser, address, api.tenant.keys["read"])
        drawn = await asyncio.to_thread(browser.evaluate, DRAWN)
    assert "differs, payments wait" in shown
    assert f"departure in {40:064x}" not in shown
    assert f"First differing movement: transaction in {40:064x}, block 40" in shown
    assert "chain −0.0000005, books 0" in shown
    # Two lines, two breaks with their flags, and the room between the lines where they differ.
    assert drawn == {"lines": 2, "spans": 2, "flags": 2, "gaps": 2, "differences": 2, "breaks": "2 breaks"}


DRAWN = """({
  lines: document.querySelectorAll("article path.books, article path.chain").length,
  spans: document.querySelectorAll("article rect.span").length,
  flags: document.querySelectorAll("article path.flag").length,
  gaps: document.querySelectorAll("article rect.gap").length,
  differences: document.querySelectorAll("article rect.differ").length,
  breaks: document.querySelector("article summary").textContent,
})"""
