"""The documentation: a guide that the tests run, and the reference made from the OpenAPI document. Nothing comes from
elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.pages.layout import escape, page
from api.pages.markdown import inline, render

router = APIRouter(include_in_schema=False)

GUIDE = (Path(__file__).parent / "getting-started.md").read_text("utf-8")
_FILTER = """
const box = document.getElementById('filter');
box.addEventListener('input', () => {
  const wanted = box.value.toLowerCase().trim();
  for (const link of document.querySelectorAll('nav a[data-text]')) link.hidden = !link.dataset.text.includes(wanted);
});
document.addEventListener('keydown', event => {
  if (event.key === '/' && document.activeElement !== box) { event.preventDefault(); box.focus(); }
});
"""

Schema = dict[str, Any]


@router.get("/docs")
async def reference(request: Request) -> Response:
    """Every operation, with what goes in, what comes out and an example of both."""
    known: dict[str, Response] = request.app.state.__dict__.setdefault("docs", {})
    if "reference" not in known:
        known["reference"] = build_reference(request.app.openapi())
    return known["reference"]


@router.get("/docs/getting-started")
async def getting_started() -> Response:
    """The first quarter of an hour."""
    return page("Getting started", f'<p><a href="/docs">Reference</a></p>{render(GUIDE)}')


@router.get("/docs/openapi.json")
async def openapi(request: Request) -> Response:
    """The document itself, for generators."""
    return Response(json.dumps(request.app.openapi()), media_type="application/json")


def build_reference(document: Schema) -> Response:
    """The whole page."""
    groups: dict[str, list[tuple[str, str, Schema]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation.get("tags", ["other"])[0], []).append((method, path, operation))
    shown = _Reference(document)
    body = [
        f"<h1>{escape(document['info']['title'])}</h1>",
        *(
            f"<p>{inline(' '.join(each.split()))}</p>"
            for each in document["info"]["description"].split("\n\n")
        ),
        (
            '<p><a href="/docs/getting-started">Getting started</a> · <a href="/docs/problems">Problems</a> · '
            '<a href="/docs/openapi.json">OpenAPI document</a></p>'
        ),
    ]
    for tag, operations in sorted(groups.items()):
        body.append(f'<h2 id="{escape(tag)}">{escape(_title(tag))}</h2>')
        body += [shown.operation(*each) for each in operations]
    return page("Reference", "".join(body), aside=_aside(groups), script=_FILTER)


def _aside(groups: dict[str, list[tuple[str, str, Schema]]]) -> str:
    parts = [
        (
            '<nav aria-label="Operations">'
            '<input id="filter" type="search" placeholder="Filter ( / )" aria-label="Filter operations">'
            '<h2>Guide</h2><a href="/docs/getting-started">Getting started</a><a href="/docs/problems">Problems</a>'
        )
    ]
    for tag, operations in sorted(groups.items()):
        parts.append(f"<h2>{escape(_title(tag))}</h2>")
        for method, path, operation in operations:
            name = str(operation["operationId"])
            text = escape(f"{method} {path} {name.replace('_', ' ')} {tag}".lower())
            parts.append(
                f'<a href="#{escape(name)}" data-text="{text}"><span class="verb {escape(method)}">{escape(_verb(method))}</span>'
                f"<span>{escape(name.replace('_', ' '))}</span></a>"
            )
    return "".join([*parts, "</nav>"])


class _Reference:
    """Shows operations of one document."""

    def __init__(self, document: Schema) -> None:
        self._document = document

    def operation(self, method: str, path: str, operation: Schema) -> str:
        """One of them."""
        name = escape(str(operation["operationId"]))
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        parts = [
            (
                f'<section class="operation" id="{name}"><h3><span class="verb {escape(method)}">{escape(method.upper())}</span>'
                f"<code>{escape(path)}</code></h3><p>{inline(' '.join(operation.get('description', '').split()))}</p>"
            ),
            self._parameters(operation),
        ]
        if body is not None:
            parts.append(f"<h3>Body</h3>{self._fields(body['schema'])}{_json(body.get('example'))}")
        parts += self._answers(operation)
        return "".join([*parts, "</section>"])

    def _parameters(self, operation: Schema) -> str:
        named = [each for each in operation.get("parameters", ()) if "$ref" not in each]
        rows = "".join(
            f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}"
            f"{', required' if each.get('required') else ''}"
            f"</td><td>{inline(each.get('description') or each['schema'].get('description', ''))}</td></tr>"
            for each in named
        )
        return f"<table><tr><th>Parameter</th><th>In</th><th>Meaning</th></tr>{rows}</table>" if rows else ""

    def _answers(self, operation: Schema) -> Iterator[str]:
        refusals = []
        for status, told in sorted(operation["responses"].items()):
            content: Schema = next(iter(told.get("content", {}).values()), {})
            if status.startswith("2"):
                yield f"<h3>Answer {escape(status)}</h3>"
                if content.get("schema"):
                    yield f"<details><summary>Fields</summary>{self._fields(content['schema'])}</details>"
                    yield _json(content.get("example"))
            elif status.startswith(("4", "5")):
                refusals.append(
                    f"<tr><td>{escape(status)}</td><td>{escape(self._resolved(told)['description'])}</td></tr>"
                )
        yield f"<details><summary>Refusals</summary><table>{''.join(refusals)}</table></details>"

    def _fields(self, schema: Schema) -> str:
        rows = "".join(self._rows(schema, "", 0))
        return f"<table><tr><th>Field</th><th>Kind</th><th>Meaning</th></tr>{rows}</table>" if rows else ""

    def _rows(self, schema: Schema, above: str, depth: int) -> Iterator[str]:
        found = self._resolved(schema)
        for choice in found.get("anyOf", ()):
            if "$ref" in choice:
                found = self._resolved(choice)
        required = found.get("required", ())
        for name, inner in found.get("properties", {}).items():
            optional = "" if name in required else ", optional"
            told = inner.get("description") or self._resolved(inner).get("description", "")
            yield (
                f"<tr><td><code>{escape(above + name)}</code></td><td>{escape(self._kind(inner))}{optional}</td>"
                f"<td>{inline(' '.join(told.split()))}</td></tr>"
            )
            if depth < 3:
                many = inner.get("type") == "array"
                below = f"{above}{name}{'[]' if many else ''}."
                yield from self._rows(inner.get("items", {}) if many else inner, below, depth + 1)

    def _kind(self, schema: Schema) -> str:
        if "anyOf" in schema:
            return " or ".join(self._kind(each) for each in schema["anyOf"])
        if "enum" in schema:
            return " | ".join(map(str, schema["enum"]))
        if schema.get("type") == "array":
            return f"list of {self._kind(schema.get('items', {}))}"
        return str(self._resolved(schema).get("type", "any"))

    def _resolved(self, part: Schema) -> Schema:
        while "$ref" in part:
            target: Any = self._document
            for step in part["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            part = target
        return part


def _json(example: object) -> str:
    return f"<pre><code>{escape(json.dumps(example, indent=2, ensure_ascii=False))}</code></pre>"


def _title(tag: str) -> str:
    return "GraphQL" if tag == "graphql" else tag.replace("-", " ").capitalize()


def _verb(method: str) -> str:
    return "DEL" if method == "delete" else method.upper()
