"""What each problem means, at the address that its `type` names. Made from the errors themselves, so that none is missing."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import APIRouter
from starlette.responses import Response

from api.errors import status_of_kind
from api.pages.layout import escape, page
from api.pages.markdown import inline
from custody.kernel.errors import CustodyError, NotFound

router = APIRouter(include_in_schema=False)

_RETRY = (
    "Repeat the call with the same <code>Idempotency-Key</code> after the time in <code>Retry-After</code>."
)
_DIFFERENT = "The same call will meet the same answer until something changes."


class UnknownProblem(NotFound):
    """The address names no problem of this API."""

    code = "unknown_problem"
    public = "No such problem."


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One type of problem."""

    code: str
    status: int
    title: str
    meaning: str
    retryable: bool


def explained() -> dict[str, Explained]:
    """Every problem by code: the errors that this process can raise, and what the framework itself refuses."""
    found = {
        code: Explained(
            code=code,
            status=status,
            title=HTTPStatus(status).phrase,
            meaning=HTTPStatus(status).description or HTTPStatus(status).phrase,
            retryable=False,
        )
        for code, status in (("not_found", 404), ("method_not_allowed", 405), ("internal_error", 500))
    }
    for kind in sorted(_kinds(CustodyError), key=lambda each: each.__mro__.__len__(), reverse=True):
        # Of two errors with one code the more general one speaks: sorted last, it wins.
        found[kind.code] = Explained(
            code=kind.code,
            status=status_of_kind(kind),
            title=kind.public,
            meaning=inspect.getdoc(kind) or kind.public,
            retryable=kind.retryable,
        )
    return dict(sorted(found.items()))


def _kinds(kind: type[CustodyError]) -> Iterator[type[CustodyError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


@router.get("/docs/problems")
async def list_problems() -> Response:
    """All of them."""
    rows = "".join(
        f'<tr><td><a href="/docs/problems/{escape(each.code)}"><code>{escape(each.code)}</code></a></td>'
        f"<td>{each.status}</td><td>{escape(each.title)}</td></tr>"
        for each in explained().values()
    )
    head = "<tr><th>Code</th><th>Status</th><th>Meaning</th></tr>"
    return page(
        "Problems", f"<h1>Problems</h1><p>Branch on <code>code</code>.</p><table>{head}{rows}</table>"
    )


@router.get("/docs/problems/{code}")
async def show_problem(code: str) -> Response:
    """One of them. Raises UnknownProblem."""
    found = explained().get(code)
    if found is None:
        raise UnknownProblem(problem=code[:64])
    return page(
        found.code,
        f'<p><a href="/docs/problems">Problems</a></p><h1><code>{escape(found.code)}</code></h1>'
        f"<p><b>{found.status} {escape(HTTPStatus(found.status).phrase)}.</b> {escape(found.title)}</p>"
        f"<p>{inline(' '.join(found.meaning.split()))}</p>"
        f"<p>{_RETRY if found.retryable else _DIFFERENT}</p>",
    )
