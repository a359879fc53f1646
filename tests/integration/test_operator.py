"""An operator's bad day: what commands and the API say when a part of the platform is away or full."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from custody.db.session import Database
from tests.commands import custody
from tests.integration.api_harness import Harness, running
from tests.postgres import Cluster

PASSWORD = "not-for-the-terminal"
CONFIGURATION = """
environment = "development"
intent_valid_s = 30
chains = []
database = {{ url = "{url}" }}
redis = {{ url = "redis://127.0.0.1:1/0" }}
signer = {{ socket = "/nonexistent/signer.sock" }}
api = {{ port = 18080 }}
"""


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


@pytest.mark.parametrize(
    "words", [("tenants", "list"), ("tenants", "create", "acme"), ("recon", "--json"), ("ledger", "report")]
)
def test_a_command_without_a_database_ends_with_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    configuration = tmp_path / "custody.toml"
    url = f"postgresql://custody_app:{PASSWORD}@127.0.0.1:1/custody"
    configuration.write_text(CONFIGURATION.format(url=url))
    done = custody(configuration, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"custody {words[0]}: ")
    assert PASSWORD not in done.stderr


def test_a_command_with_a_wrong_password_says_so_without_it(tmp_path: Path, cluster: Cluster) -> None:
    configuration = tmp_path / "custody.toml"
    url = cluster.server.dsn("custody_app", PASSWORD, "postgres")
    configuration.write_text(CONFIGURATION.format(url=url))
    done = custody(configuration, "tenants", "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert "password authentication failed" in done.stderr
    assert (len(done.stderr.splitlines()), PASSWORD in done.stderr) == (1, False)


async def test_a_database_that_takes_no_more_connections_is_unavailable_and_not_a_fault(
    api: Harness, cluster: Cluster, database_name: str
) -> None:
    cluster.server.run_sql(f"ALTER DATABASE {database_name} CONNECTION LIMIT 0")
    await api.app.db.engine.dispose()
    answer = await api.get("/v1/assets")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert (await api.http.get("/readyz")).status_code == 503
    assert (await api.http.get("/metrics")).status_code == 200
