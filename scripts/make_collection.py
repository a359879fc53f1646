"""Write the Bruno collection from the OpenAPI document: a request for every operation. `--check` fails when it is stale."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "clients" / "bruno"
ENVIRONMENT = "vars {\n  url: http://127.0.0.1:8080\n}\nvars:secret [\n  key\n]\n"

Schema = dict[str, Any]


def files() -> dict[Path, str]:
    """The collection, by path."""
    document = json.loads((ROOT / "api" / "openapi.json").read_text("utf-8"))
    manifest = {"version": "1", "name": document["info"]["title"], "type": "collection", "ignore": []}
    made = {
        HOME / "bruno.json": json.dumps(manifest, indent=2) + "\n",
        HOME / "environments" / "local.bru": ENVIRONMENT,
    }
    numbers: dict[str, int] = {}
    for path, methods in document["paths"].items():
        for verb, operation in methods.items():
            folder = operation.get("tags", ["other"])[0]
            numbers[folder] = numbers.get(folder, 0) + 1
            name = str(operation["operationId"])
            made[HOME / folder / f"{name}.bru"] = request(path, verb, operation, numbers[folder])
    return made


def request(path: str, verb: str, operation: Schema, number: int) -> str:
    """One request in Bruno's own words."""
    named = [each for each in operation.get("parameters", ()) if "$ref" not in each]
    content = next(iter(operation.get("requestBody", {}).get("content", {}).values()), None)
    url = re.sub(r"\{(\w+)\}", r":\1", path)
    kind = "none" if content is None else "json"
    parts = [
        _block("meta", {"name": str(operation["operationId"]), "type": "http", "seq": str(number)}),
        _block(
            verb,
            {"url": "{{url}}" + url, "body": kind, "auth": "bearer" if operation.get("security") else "none"},
        ),
    ]
    query = {f"~{each['name']}": _example(each) for each in named if each["in"] == "query"}
    steps = {each["name"]: _example(each) for each in named if each["in"] == "path"}
    parts += [_block("params:query", query)] if query else []
    parts += [_block("params:path", steps)] if steps else []
    if any(each["name"] == "Idempotency-Key" for each in named):
        parts.append(_block("headers", {"Idempotency-Key": "{{$guid}}"}))
    if operation.get("security"):
        parts.append(_block("auth:bearer", {"token": "{{key}}"}))
    if content is not None:
        text = json.dumps(content.get("example"), indent=2)
        parts.append("body:json {\n" + "\n".join("  " + line for line in text.splitlines()) + "\n}\n")
    told = " ".join(str(operation.get("description", "")).split())
    parts.append("docs {\n  " + told + "\n}\n")
    return "\n".join(parts)


def _block(name: str, values: dict[str, str]) -> str:
    return f"{name} {{\n" + "".join(f"  {key}: {value}\n" for key, value in values.items()) + "}\n"


def _example(parameter: Schema) -> str:
    schema = parameter["schema"]
    found = schema.get("examples") or [schema.get("default", "")]
    return str(found[0])


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description="Write the Bruno collection.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    check = parser.parse_args().check
    made = files()
    surplus = [path for path in HOME.rglob("*.*") if path.is_file() and path not in made]
    stale = [path for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text]
    if check:
        for path in (*stale, *surplus):
            sys.stderr.write(f"{path.relative_to(ROOT)} is stale: run python -m scripts.make_collection\n")
        return 1 if stale or surplus else 0
    for path in surplus:
        path.unlink()
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
