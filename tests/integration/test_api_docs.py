"""The documentation that we serve: its guide does what it says, its reference lacks nothing, and neither asks anybody else."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from typing import Any

import pytest

from api.export import HERE
from api.pages.docs import GUIDE
from api.pages.markdown import blocks, render
from tests.integration.api_harness import XLM, Harness
from tests.integration.api_server import served

MARK = "--- end of block ---"
_VARIES = re.compile(r"[a-z]{3}_[0-9a-f]{32}|[0-9a-f]{32}|\d{4}-\d\d-\d\dT[\d:.]+Z")


async def test_the_guide_does_what_it_says(shared_api: Harness) -> None:
    steps = [each for each in blocks(GUIDE) if each.kind == "code"]
    script = "\n".join(f"{each.text}\nprintf '%s\\n' '{MARK}'" for each in steps if each.language == "sh")
    async with served(shared_api.asgi) as url:
        env = {**os.environ, "CUSTODY_URL": url, "CUSTODY_KEY": shared_api.tenant.keys["all"]}
        env |= {"FUNDED_WALLET": shared_api.tenant.wallet, "ASSET": XLM.text, "no_proxy": "127.0.0.1"}
        done = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-euo", "pipefail", "-c", script],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    said = [part.strip() for part in done.stdout.split(MARK)]
    shown = iter(said)
    compared = 0
    last = ""
    for step in steps:
        if step.language == "sh":
            last = next(shown)
        else:
            assert steady(json.loads(last)) == steady(json.loads(step.text))
            compared += 1
    assert compared >= 6


def steady(value: Any) -> Any:
    """A body without what differs from run to run."""
    if isinstance(value, dict):
        return {name: steady(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [steady(each) for each in value]
    return _VARIES.sub("…", value) if isinstance(value, str) else value


async def test_the_reference_shows_every_operation_and_loads_nothing_from_elsewhere(
    shared_api: Harness,
) -> None:
    page = await shared_api.http.get("/docs")
    document = json.loads((HERE / "openapi.json").read_text("utf-8"))
    names = [
        operation["operationId"] for methods in document["paths"].values() for operation in methods.values()
    ]
    assert [name for name in names if f'id="{name}"' not in page.text] == []
    for path in ("/docs", "/docs/getting-started", "/docs/problems"):
        answer = await shared_api.http.get(path)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert re.findall(r"""(?:src|href)=["'](?:https?:)?//""", answer.text) == []
        links = set(re.findall(r'href="(/[^"#]*)', answer.text))
        assert links
        for link in sorted(links)[:5]:
            assert (await shared_api.http.get(link)).status_code == 200, link
    for anchor in set(re.findall(r'href="#([^"]+)"', page.text)):
        assert f'id="{anchor}"' in page.text


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "`<b>`", "[x](javascript:0)<i>"])
def test_what_is_written_is_escaped(text: str) -> None:
    assert "<script" not in render(text)
    assert "<i>" not in render(text)
    assert "<b>" not in render(text)
