"""The people of the demo and how each of them acts: custody app, operator, three approvers with keys of their own, outsiders."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from devnet.config import APPROVERS, ROOT, Endpoints
from devnet.story.client import PATIENCE_S, Api, StoryError, until

COMMAND_S = 90.0
"""Longest that any command of the demo may take."""
REFUSED = "the API refused (4"
"""What the approver's command says when trying again would not help."""


@dataclass(slots=True, kw_only=True)
class Cast:
    """Everybody who takes part, and what they have learnt of each other so far."""

    ends: Endpoints
    state: Path
    operator: Api
    """Sets up vaults, assets and bank accounts; asks for trustlines."""
    app: Api
    """A custody app: customers, wallets, transfers, withdrawals, payouts."""
    names: dict[str, str] = field(default_factory=dict)
    """Ids and addresses by what the story calls them."""

    async def aclose(self) -> None:
        """Let the connections go."""
        await self.operator.aclose()
        await self.app.aclose()

    async def approve(self, withdrawal_id: str, *approvers: str, reject: bool = False) -> None:
        """Let approvers read and sign, each with the command and key of their own, one after the other.

        A person whose command found nobody at the other end runs it again: the same decision twice is one decision.
        """
        for name in approvers:
            word = ["--reject"] if reject else []
            argv = (
                "approve",
                *("--api", self.ends.api_url),
                *("--token-file", str(self.state / "keys" / name)),
                *("--key-file", str(self.state / "approvers" / f"{name}.pem")),
                *("--approver", name, "--yes", *word, withdrawal_id),
            )
            await persist(self.ends, *argv)

    async def reaches(self, withdrawal_id: str, state: str) -> dict[str, object]:
        """Wait until a withdrawal is in this state."""

        async def look() -> dict[str, object]:
            return await self.app.get(f"/v1/withdrawals/{withdrawal_id}")

        return await until(
            f"withdrawal {withdrawal_id} to be {state}", look, lambda found: found["state"] == state
        )


async def gather_cast(ends: Endpoints, state: Path) -> Cast:
    """Everybody, with keys of their own."""
    keys = await hand_out_keys(ends, state)
    return Cast(
        ends=ends,
        state=state,
        operator=Api(ends.api_url, secret_of(keys / "operator")),
        app=Api(ends.api_url, secret_of(keys / "app")),
    )


async def hand_out_keys(ends: Endpoints, state: Path) -> Path:
    """Create the tenant and everybody's API keys, as an operator does: by the command line, secrets into files. Their folder."""
    keys = state / "keys"
    shutil.rmtree(keys, ignore_errors=True)
    keys.mkdir(mode=0o700, parents=True)
    created = json.loads(await custody(ends, "tenants", "create", "demo"))
    scopes = {
        "operator": ("read", "operate"),
        "app": ("read", "write"),
        **dict.fromkeys(APPROVERS, ("read", "approve")),
    }
    await asyncio.gather(
        *(
            issue_key(ends, str(created["tenant"]), subject, granted, keys / subject)
            for subject, granted in scopes.items()
        )
    )
    return keys


async def issue_key(ends: Endpoints, tenant: str, subject: str, scopes: tuple[str, ...], out: Path) -> None:
    """An API key of this subject, its secret in a file of its own."""
    wanted = [word for scope in scopes for word in ("--scope", scope)]
    await custody(
        ends,
        *("tenants", "issue-key", "--tenant", tenant, "--subject", subject, *wanted, "--out", str(out)),
    )


def secret_of(path: Path) -> str:
    """An API key's secret from its file."""
    return path.read_text(encoding="ascii").strip()


async def persist(ends: Endpoints, *argv: str) -> None:
    """Run a command again until somebody answers it. Raises StoryError when it is refused or nobody ever answers."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            await custody(ends, *argv)
        except StoryError as error:
            if REFUSED in str(error) or time.monotonic() > deadline:
                raise
            await asyncio.sleep(1)
        else:
            return


async def custody(ends: Endpoints, *argv: str, may_fail: bool = False) -> str:
    """Run the `custody` command in a process of its own; its output. Raises StoryError when it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", *argv),
        cwd=ROOT,
        env={**os.environ, "CUSTODY_CONFIG": str(ends.config)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(COMMAND_S):
        out, err = await process.communicate()
    if process.returncode != 0 and not may_fail:
        said = (err or out).decode(errors="replace").strip()
        raise StoryError(f"custody {' '.join(argv[:2])} ended with {process.returncode}: {said[-600:]}")
    return out.decode()
