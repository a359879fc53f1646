"""What partners may rely on everywhere: versions, tags of content, explained problems, plain bodies, hidden objects."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api.export import HERE
from api.pages.problems import explained
from api.server import PatientHttp
from api.versions import CURRENT
from tests.integration.api_harness import Harness
from tests.integration.api_server import served


async def test_a_version_is_echoed_and_an_unknown_one_refused(shared_api: Harness) -> None:
    plain = await shared_api.get("/v1/assets")
    pinned = await shared_api.http.get(
        "/v1/assets", headers=shared_api.headers() | {"Custody-Version": CURRENT}
    )
    unknown = await shared_api.http.get(
        "/v1/assets", headers=shared_api.headers() | {"Custody-Version": "2019-01-01"}
    )
    assert plain.headers["custody-version"] == pinned.headers["custody-version"] == CURRENT
    assert (unknown.status_code, unknown.json()["code"]) == (400, "unknown_version")


@pytest.mark.parametrize("path", ["/v1/wallets/{wallet}/balances", "/v1/wallets/{wallet}", "/v1/assets"])
async def test_an_answer_that_is_known_is_not_sent_again(shared_api: Harness, path: str) -> None:
    url = path.format(wallet=shared_api.tenant.wallet)
    first = await shared_api.get(url)
    headers = shared_api.headers() | {"If-None-Match": f'"other", W/{first.headers["etag"]}'}
    again = await shared_api.http.get(url, headers=headers)
    other = await shared_api.http.get(url, headers=headers | {"If-None-Match": '"other"'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert (other.status_code, other.content) == (200, first.content)


async def test_every_problem_has_its_page_at_the_address_in_its_type(shared_api: Harness) -> None:
    met = await shared_api.get("/v1/wallets/wal_" + "0" * 32)
    page = await shared_api.http.get(met.json()["type"])
    assert (met.status_code, page.status_code) == (404, 200)
    assert met.json()["code"] in page.text
    assert page.headers["content-type"].startswith("text/html")
    index = (await shared_api.http.get("/docs/problems")).text
    assert [code for code in explained() if f"/docs/problems/{code}" not in index] == []
    assert (await shared_api.http.get("/docs/problems/nonsense")).status_code == 404


async def test_a_compressed_body_is_refused_unread(shared_api: Harness) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    for encoding in ("gzip", "br", "deflate, gzip"):
        headers = shared_api.headers() | {"Content-Type": "application/json", "Content-Encoding": encoding}
        answer = await shared_api.http.post("/v1/customers", content=bomb, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_content_encoding")


def test_every_body_has_an_example_that_fits_its_schema() -> None:
    document = json.loads((HERE / "openapi.json").read_text("utf-8"))
    checked = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            bodies = [operation.get("requestBody", {})]
            bodies += [told for status, told in operation["responses"].items() if status.startswith("2")]
            for content in (each for body in bodies for each in body.get("content", {}).values()):
                if not content.get("schema"):
                    continue
                schema = content["schema"] | {"components": document["components"]}
                errors = list(Draft202012Validator(schema).iter_errors(content["example"]))
                assert errors == [], f"{method} {path}: {errors[0].message if errors else ''}"
                checked += 1
    assert checked > 100


async def test_ids_of_another_tenant_are_not_there(shared_api: Harness) -> None:
    """Nor are ids that nobody has: the two must not be told apart. `make fuzz` asks ten thousand times."""
    seed = random.SystemRandom().randrange(2**32)
    chance, asked = random.Random(seed), int(os.environ.get("CUSTODY_FUZZ_IDS", "1000"))
    reads = single_reads()
    known = [shared_api.other.wallet, shared_api.other.customer, shared_api.other.vault]
    answers: dict[tuple[int, str], int] = {}
    for n in range(asked):
        path, prefix = reads[n % len(reads)]
        real = chance.choice(known)
        shown = real if n % 2 and real.startswith(prefix) else f"{prefix}_{chance.getrandbits(128):032x}"
        answer = await shared_api.get(path.replace("{id}", shown))
        body = answer.json()
        assert answer.status_code == 404, (seed, path, shown, answer.text)
        assert shown.removeprefix(f"{prefix}_") not in json.dumps({**body, "detail": ""})
        answers[answer.status_code, body["code"]] = answers.get((answer.status_code, body["code"]), 0) + 1
    assert sum(answers.values()) == asked


def single_reads() -> list[tuple[str, str]]:
    """Every read of one object: its path, and the prefix of the ids that it takes.

    Without those of access, which keys of these scopes do not open: the access matrix asks about them as everybody.
    """
    document = json.loads((HERE / "openapi.json").read_text("utf-8"))
    found = []
    for path, methods in document["paths"].items():
        if methods.get("get", {}).get("tags") == ["access"]:
            continue
        taken = [each for each in methods.get("get", {}).get("parameters", ()) if each.get("in") == "path"]
        if len(taken) == 1 and (example := _example(taken[0])) is not None:
            found.append((path.replace("{" + taken[0]["name"] + "}", "{id}"), example.partition("_")[0]))
    assert len(found) > 10
    return found


def _example(parameter: dict[str, Any]) -> str | None:
    examples = parameter["schema"].get("examples") or [parameter.get("example")]
    return examples[0] if examples[0] and "_0192" in str(examples[0]) else None


class Hasty(PatientHttp):
    """With little patience."""

    head_timeout_s = 0.1


async def test_a_client_that_never_ends_its_headers_is_let_go(shared_api: Harness) -> None:
    async with served(shared_api.asgi, http=Hasty) as url:
        port = int(url.rpartition(":")[2])
        for beginning in (b"", b"GET /livez HTTP/1.1\r\nX-Slow: 1\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(beginning)
            assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b'{"status":"alive"}'), 20)
            assert head.startswith(b"HTTP/1.1 200")
        writer.close()
