"""What the API's description would break for clients of the last release. `--release` makes today's description the released one.

`api/released/` holds what was last published. What was there stays there: nothing that clients send may be refused later, nothing
that they read may vanish or change its kind. New fields, operations and words of an answer are not a break; clients ignore what
they do not know.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from graphql import build_schema
from graphql.utilities import find_breaking_changes

HERE = Path(__file__).resolve().parents[1] / "api"
RELEASED = HERE / "released"
DOCUMENTS = ("openapi.json", "schema.graphql")

Schema = dict[str, Any]


class Comparison:
    """Two OpenAPI documents, and what the second breaks."""

    def __init__(self, old: Schema, new: Schema) -> None:
        """Both are whole documents."""
        self._old, self._new = old, new
        self.breaks: list[str] = []

    def run(self) -> list[str]:
        """Every break, each in one line."""
        for path, methods in self._old["paths"].items():
            for method, operation in methods.items():
                name = f"{method.upper()} {path}"
                found = self._new["paths"].get(path, {}).get(method)
                if found is None:
                    self.breaks.append(f"{name}: is gone")
                else:
                    self._operation(name, operation, found)
        return self.breaks

    def _operation(self, name: str, old: Schema, new: Schema) -> None:
        self._parameters(name, old, new)
        before, after = old.get("requestBody"), new.get("requestBody")
        if before is None and after is not None and after.get("required"):
            self.breaks.append(f"{name}: needs a body now")
        elif before is not None and after is None:
            self.breaks.append(f"{name}: takes no body any more")
        elif before is not None and after is not None:
            self._contents(f"{name} body", before, after, takes=True)
        for status, told in old["responses"].items():
            if status.startswith("2"):
                answer = new["responses"].get(status)
                if answer is None:
                    self.breaks.append(f"{name}: does not answer {status} any more")
                else:
                    self._contents(f"{name} {status}", told, answer, takes=False)

    def _parameters(self, name: str, old: Schema, new: Schema) -> None:
        before, after = _by_name(self._old, old), _by_name(self._new, new)
        for key, parameter in after.items():
            if parameter.get("required") and not before.get(key, {}).get("required"):
                self.breaks.append(f"{name}: needs {key[0]} parameter {key[1]} now")
        for key, parameter in before.items():
            if key not in after:
                self.breaks.append(f"{name}: {key[0]} parameter {key[1]} is gone")
            else:
                at = f"{name} {key[1]}"
                self._schema(at, parameter["schema"], after[key]["schema"], takes=True, seen=())

    def _contents(self, at: str, old: Schema, new: Schema, *, takes: bool) -> None:
        for kind, content in old.get("content", {}).items():
            found = new.get("content", {}).get(kind)
            if found is None:
                self.breaks.append(f"{at}: no {kind} any more")
            else:
                self._schema(at, content.get("schema", {}), found.get("schema", {}), takes=takes, seen=())

    def _schema(self, at: str, old: Schema, new: Schema, *, takes: bool, seen: tuple[str, ...]) -> None:
        name = str(old.get("$ref", ""))
        if name and name in seen:
            return
        seen = (*seen, name) if name else seen
        old, new = _resolved(self._old, old), _resolved(self._new, new)
        before, after = _kinds(old), _kinds(new)
        narrower = before - after if takes else after - before
        if before and after and narrower:
            verb = "takes no" if takes else "may be"
            self.breaks.append(
                f"{at}: {verb} {', '.join(sorted(narrower))}{' any more' if takes else ' now'}"
            )
        self._words(at, old, new, takes=takes)
        if takes:
            self._bounds(at, old, new)
        self._fields(at, _object(self._old, old), _object(self._new, new), takes=takes, seen=seen)
        if "items" in old and "items" in new:
            self._schema(f"{at}[]", old["items"], new["items"], takes=takes, seen=seen)

    def _words(self, at: str, old: Schema, new: Schema, *, takes: bool) -> None:
        if takes and "enum" in new:
            lost = sorted(map(str, set(map(str, old.get("enum", ()))) - set(map(str, new["enum"]))))
            if lost or "enum" not in old:
                self.breaks.append(f"{at}: takes fewer words: {', '.join(lost)}")

    def _bounds(self, at: str, old: Schema, new: Schema) -> None:
        for word in ("maxLength", "maximum", "maxItems"):
            if word in new and new[word] < old.get(word, float("inf")):
                self.breaks.append(f"{at}: {word} is lower")
        for word in ("minLength", "minimum", "minItems"):
            if word in new and new[word] > old.get(word, float("-inf")):
                self.breaks.append(f"{at}: {word} is higher")
        if "pattern" in new and new["pattern"] != old.get("pattern"):
            self.breaks.append(f"{at}: pattern changed")

    def _fields(self, at: str, old: Schema, new: Schema, *, takes: bool, seen: tuple[str, ...]) -> None:
        before, after = old.get("properties", {}), new.get("properties", {})
        needed, promised = set(new.get("required", ())), set(old.get("required", ()))
        if takes:
            for field in sorted(needed - promised):
                self.breaks.append(f"{at}/{field}: is needed now")
        else:
            for field in sorted((promised & set(after)) - needed):
                self.breaks.append(f"{at}/{field}: is not always there any more")
        for field, schema in before.items():
            if field not in after:
                self.breaks.append(f"{at}/{field}: is gone")
            else:
                self._schema(f"{at}/{field}", schema, after[field], takes=takes, seen=seen)


def _by_name(document: Schema, operation: Schema) -> dict[tuple[str, str], Schema]:
    found = [_resolved(document, each) for each in operation.get("parameters", ())]
    return {(each["in"], each["name"]): each for each in found}


def _resolved(document: Schema, part: Schema) -> Schema:
    while "$ref" in part:
        target: Any = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        part = target
    return part


def _object(document: Schema, schema: Schema) -> Schema:
    """The object among a schema's choices: there is at most one, beside null."""
    for choice in schema.get("anyOf", ()):
        found = _resolved(document, choice)
        if "properties" in found:
            return found
    return schema


def _kinds(schema: Schema) -> set[str]:
    if "anyOf" in schema:
        return {str(each.get("type", "object")) for each in schema["anyOf"]}
    kind = schema.get("type", ())
    return {kind} if isinstance(kind, str) else set(kind)


def openapi_breaks(old: Schema, new: Schema) -> list[str]:
    """What a client of the old document would meet in the new one."""
    return Comparison(old, new).run()


def graphql_breaks(old: str, new: str) -> list[str]:
    """The same for GraphQL."""
    return [change.description for change in find_breaking_changes(build_schema(old), build_schema(new))]


def breaks() -> list[str]:
    """All breaks against the last release."""
    old, new = (json.loads((home / "openapi.json").read_text("utf-8")) for home in (RELEASED, HERE))
    sdl_old, sdl_new = ((home / "schema.graphql").read_text("utf-8") for home in (RELEASED, HERE))
    return [*openapi_breaks(old, new), *graphql_breaks(sdl_old, sdl_new)]


def main() -> int:
    """Compare, or release."""
    parser = argparse.ArgumentParser(description="Compare the API's description with the released one.")
    parser.add_argument("--release", action="store_true", help="make today's description the released one")
    if parser.parse_args().release:
        for name in DOCUMENTS:
            shutil.copyfile(HERE / name, RELEASED / name)
        return 0
    found = breaks()
    for each in found:
        sys.stderr.write(f"breaks clients: {each}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
