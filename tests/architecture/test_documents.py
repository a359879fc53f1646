"""Documents that must not drift from the code: glossary, decisions, dependencies, picture."""

from __future__ import annotations

import re
import tomllib
import xml.etree.ElementTree as ET

import pytest

from tests.architecture.sources import PRODUCT, ROOT, sources

DISTRIBUTIONS = {
    "pycryptodome": "Crypto",
    "safe-pysha3": "sha3",
    "pyjwt": "jwt",
    "nats-py": "nats",
    "pynacl": "nacl",
    "python-pkcs11": "pkcs11",
    "strawberry-graphql": "strawberry",
    "stellar-sdk": "stellar_sdk",
    "prometheus-client": "prometheus_client",
    "pydantic-settings": "pydantic_settings",
}
"""Distribution to the name it is imported by, where they differ."""


def runtime_dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["signer"], *extras["warehouse"]]
    return {re.split(r"[\[<>=~ ]", line)[0] for line in wanted}


def test_every_runtime_dependency_has_its_line() -> None:
    lines = (ROOT / "docs/adr/0005-dependencies.md").read_text().splitlines()
    written = {line.split("|")[1].strip() for line in lines if line.startswith("| ")} - {"package"}
    assert written == runtime_dependencies()


def test_every_runtime_dependency_is_used() -> None:
    used = {name.partition(".")[0] for one in sources(*PRODUCT, "cli") for name in one.imports}
    assert {name for name in runtime_dependencies() if DISTRIBUTIONS.get(name, name) not in used} == set()


def test_signers_lock_holds_its_set_only() -> None:
    lock = (ROOT / "requirements/signer.lock").read_text()
    for name in ("sqlalchemy", "asyncpg", "httpx", "fastapi", "redis", "arq", "uvicorn"):
        assert not re.search(rf"^{name}==", lock, re.MULTILINE), name


def test_locks_pin_by_hash_and_name_no_host() -> None:
    for path in sorted((ROOT / "requirements").glob("*.lock")):
        text = path.read_text()
        assert "://" not in text, path.name
        pins = re.findall(r"^[a-z0-9][^\s]*==\S+", text, re.MULTILINE)
        assert pins
        assert len(re.findall(r"^    --hash=sha256:", text, re.MULTILINE)) >= len(pins), path.name


def test_glossary_knows_every_state_machine() -> None:
    glossary = (ROOT / "docs/glossary.md").read_text().lower()
    for context in ("deposit", "withdrawal", "payout", "hold", "attempt"):
        assert f"**{context}**" in glossary


def test_glossary_knows_the_words_of_sending_and_sealing() -> None:
    glossary = (ROOT / "docs/glossary.md").read_text()
    for word in ("slot", "attempt", "stray", "veto", "lapse", "batch", "seal", "checkpoint"):
        assert f"**{word}**" in glossary, word


@pytest.mark.parametrize("document", ["threat-model.md", "ccss.md", "two-signers.md"])
def test_documents_name_tests_that_exist(document: str) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / document).read_text()))
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert named
    assert named - there == set()


def test_every_aspect_of_the_ccss_says_what_is_done_shown_left_and_not_met() -> None:
    aspects = re.split(r"^## ", (ROOT / "docs/ccss.md").read_text(), flags=re.MULTILINE)[1:]
    assert [aspect[:4] for aspect in aspects] == [
        *("1.01", "1.02", "1.03", "1.04", "1.05", "1.06"),
        *("2.01", "2.02", "2.03", "2.04"),
    ]
    for aspect in aspects:
        for said in (
            "Asks: ",
            "- **We do.**",
            "- **Shown by** `test_",
            "- **The operator** ",
            "- **Not met.**",
        ):
            assert said in aspect, (aspect[:4], said)


def test_glossary_says_each_word_once() -> None:
    words = re.findall(r"^\| \*\*([^*]+)\*\*", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    assert len(words) == len(set(words))
    assert len(words) > 50


def test_every_decision_is_listed() -> None:
    listed = set(re.findall(r"\((\d{4}-[a-z-]+\.md)\)", (ROOT / "docs/adr/README.md").read_text()))
    assert listed == {path.name for path in (ROOT / "docs/adr").glob("[0-9]*.md")}


def test_picture_shows_every_package_and_draws() -> None:
    picture = (ROOT / "docs/architecture.svg").read_text()
    ET.fromstring(picture)
    assert all(f">{name}<" in picture for name in PRODUCT)


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert broken == []
