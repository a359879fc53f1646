"""Import rules that import-linter's contracts cannot say: what a context keeps to itself."""

from __future__ import annotations

import re
import sys

import grimp
import pytest

PRIVATE = re.compile(r"(store|tables|_store)$")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(
        "api", "cli", "custody", "devnet", "ingestion", "rails", "signer", include_external_packages=True
    )


def context_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_store_and_tables_are_private_to_their_context(graph: grimp.ImportGraph) -> None:
    found = [
        f"{importer} imports {module}"
        for module in sorted(graph.modules)
        if module.startswith("custody.") and PRIVATE.search(module)
        for importer in sorted(graph.find_modules_that_directly_import(module))
        if context_of(importer) != context_of(module)
    ]
    assert found == []


def test_signer_reaches_its_chosen_packages_only(graph: grimp.ImportGraph) -> None:
    chosen = {"Crypto", "asn1crypto", "coincurve", "cryptography", "nacl", "pkcs11", "rlp", "stellar_sdk"}
    reached = {
        found.partition(".")[0]
        for module in graph.modules
        if module.partition(".")[0] == "signer"
        for found in graph.find_modules_directly_imported_by(module)
    } - {"signer"}
    assert {name for name in reached if name not in chosen and not is_standard(name)} == set()


def test_signers_wire_contract_is_standard_library_only(graph: grimp.ImportGraph) -> None:
    reached = {
        found
        for module in graph.modules
        if module.startswith("signer.protocol")
        for found in graph.find_modules_directly_imported_by(module)
        if not found.startswith("signer.protocol")
    }
    assert {name for name in reached if not is_standard(name)} == set()


def test_only_the_applications_edges_know_web_frameworks(graph: grimp.ImportGraph) -> None:
    for framework in ("fastapi", "strawberry", "starlette", "uvicorn"):
        if framework in graph.modules:
            users = {
                module.partition(".")[0] for module in graph.find_modules_that_directly_import(framework)
            }
            assert users <= {"api", "devnet"}, framework


def test_only_chains_webhooks_keysets_and_the_screener_speak_http_for_the_domain(
    graph: grimp.ImportGraph,
) -> None:
    users = graph.find_modules_that_directly_import("httpx")
    assert {
        name for name in users if name.startswith("custody.") and not name.startswith("custody.chains.")
    } == {"custody.identity.keysets", "custody.screening.provider", "custody.webhooks.sender"}


def is_standard(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


def test_one_file_knows_the_library_for_tokens(graph: grimp.ImportGraph) -> None:
    assert graph.find_modules_that_directly_import("jwt") == {"custody.identity.tokens"}
