"""Writes the documents that clients are generated from: `api/openapi.json`, `api/schema.graphql` and `api/events.json`.

`python -m api.export` writes them; `--check` writes nothing and fails when what is committed is not what the code says.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from api.graphql.schema import build_schema
from api.main import create_routes
from custody.events.schemas import build_document

HERE = Path(__file__).parent


def documents() -> dict[Path, str]:
    """Each document by the file it belongs into."""
    openapi = json.dumps(create_routes().openapi(), indent=2, ensure_ascii=False, sort_keys=True)
    return {
        HERE / "openapi.json": openapi + "\n",
        HERE / "events.json": json.dumps(build_document(), indent=2, ensure_ascii=False) + "\n",
        HERE / "schema.graphql": build_schema().as_str() + "\n",
    }


def stale() -> list[Path]:
    """The committed documents that differ from what the code says."""
    return [
        path for path, text in documents().items() if not path.exists() or path.read_text("utf-8") != text
    ]


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description="Write the published documents.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a document is stale")
    if parser.parse_args().check:
        old = stale()
        for path in old:
            sys.stderr.write(f"{path.name} is stale: run python -m api.export\n")
        return 1 if old else 0
    for path, text in documents().items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
