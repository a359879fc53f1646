"""The one place where the tree of errors becomes HTTP problems and GraphQL errors.

A client branches on `code`; people read `title` and `detail`; support asks for `trace_id`. Internals never leave: whatever is
not a CustodyError, or is a broken invariant, is logged with its trace and answered by one neutral sentence.
Source: RFC 9457.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response

from custody.kernel.errors import (
    Conflict,
    CustodyError,
    Forbidden,
    InvalidInput,
    InvariantViolated,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
)

PROBLEM_MEDIA_TYPE = "application/problem+json"

_STATUS: tuple[tuple[type[CustodyError], int], ...] = (
    (InvalidInput, 422),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Refused, 422),
    (Unavailable, 503),
    (InvariantViolated, 500),
)

_PYDANTIC_CODES: Mapping[str, str] = {
    "missing": "required",
    "extra_forbidden": "unknown_field",
    "string_too_long": "too_long",
    "string_too_short": "too_short",
    "too_long": "too_long",
    "too_short": "too_short",
    "string_pattern_mismatch": "malformed",
    "literal_error": "not_one_of",
}


class MalformedBody(InvalidInput):
    """The body is not one JSON object in UTF-8."""

    code = "malformed_json"
    public = "The body is not valid JSON."


class DuplicateKey(InvalidInput):
    """An object in the body names one key twice, so that two readers could see two different requests."""

    code = "duplicate_json_key"
    public = "A JSON object in the body repeats a key."


class UnsupportedMediaType(InvalidInput):
    """The body is declared as something other than JSON."""

    code = "unsupported_media_type"
    public = "The body must be application/json."


class EncodedBody(InvalidInput):
    """The body is compressed or otherwise encoded. It is refused unread: a few bytes could unpack to more than memory holds."""

    code = "unsupported_content_encoding"
    public = "The body must be sent as it is, without a Content-Encoding."


class UnknownVersion(InvalidInput):
    """The header Custody-Version names no version of this API."""

    code = "unknown_version"
    public = "The header Custody-Version names no version of this API."


class BodyTooLarge(InvalidInput):
    """The body is larger than the limit, as declared or as received."""

    code = "body_too_large"
    public = "The body is larger than this endpoint accepts."


class SlowBody(InvalidInput):
    """The body did not arrive in time: a client that holds a connection open by dripping bytes is let go."""

    code = "body_too_slow"
    public = "The body did not arrive in time."


class KeyMissing(InvalidInput):
    """A command came without its Idempotency-Key, or with one of another form."""

    code = "idempotency_key_missing"
    public = (
        "The header Idempotency-Key is required: 1 to 128 visible ASCII characters of the caller's choice."
    )


class MalformedCursor(InvalidInput):
    """A page cursor is not one that this endpoint gave out."""

    code = "malformed_cursor"
    public = "The cursor is not one that this endpoint returned."


class DatabaseUnavailable(Unavailable):
    """Postgres does not answer, or gave up this transaction for another one. Whether a commit arrived may be unknown."""

    code = "database_unavailable"
    public = "The database is not available; repeat the call with the same key."


class TooManyRequests(Unavailable):
    """The caller has used up what it may ask in this window."""

    code = "too_many_requests"
    retryable = True
    public = "Too many requests; try again after the time in Retry-After."


_SQLSTATES_AWAY = ("08", "40", "53", "57")
"""Connection lost, transaction rolled back (deadlock), out of resources, shutting down. Source: PostgreSQL appendix A."""

_SPECIAL: tuple[tuple[type[CustodyError], int], ...] = (
    (MalformedBody, 400),
    (DuplicateKey, 400),
    (KeyMissing, 400),
    (MalformedCursor, 400),
    (UnknownVersion, 400),
    (UnsupportedMediaType, 415),
    (EncodedBody, 415),
    (BodyTooLarge, 413),
    (SlowBody, 408),
    (TooManyRequests, 429),
)
"""Statuses that say more than the error's place in the tree."""


class FieldProblem(BaseModel):
    """One field of the request that is wrong."""

    model_config = ConfigDict(frozen=True)

    pointer: str = Field(
        description="JSON pointer into the body, or `query/…`, `path/…`, `header/…`.", examples=["/amount"]
    )
    code: str = Field(description="Stable code of what is wrong with it.", examples=["amount_not_positive"])


class Problem(BaseModel):
    """What went wrong, in a form that programs and people can read. Source: RFC 9457."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(
        description="Where it is explained: `/docs/problems/{code}`.",
        examples=["/docs/problems/insufficient_funds"],
    )
    title: str = Field(description="What this type of problem is, in one sentence.")
    status: int = Field(description="The HTTP status.", examples=[422])
    code: str = Field(description="Stable code; branch on this.", examples=["insufficient_funds"])
    detail: str = Field(description="This occurrence, in one sentence.")
    retryable: bool = Field(description="Whether the same call with the same key may succeed later.")
    errors: list[FieldProblem] = Field(description="The fields that are wrong, where fields are.")
    trace_id: str = Field(description="Quote this to support; it is also the X-Request-Id of the response.")
    confirm_url: str | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="With `step_up_required`: the page where the person sees this action and confirms it with a passkey.",
        examples=["/confirm/stu_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"],
    )


class FieldError(Exception):
    """An error in one named field: carries the pointer along with the error that the parser raised."""

    def __init__(self, pointer: str, cause: CustodyError) -> None:
        """`pointer` is a JSON pointer into the body."""
        super().__init__(str(cause))
        self.pointer = pointer
        self.cause = cause


@contextlib.contextmanager
def at(pointer: str) -> Iterator[None]:
    """Name the field that is being parsed inside: an InvalidInput raised there is reported with this pointer."""
    try:
        yield
    except InvalidInput as error:
        raise FieldError(pointer, error) from error


def status_of(error: CustodyError) -> int:
    """The HTTP status of an error of the tree."""
    return status_of_kind(type(error))


def status_of_kind(kind: type[CustodyError]) -> int:
    """The HTTP status of a class of errors."""
    for special, status in _SPECIAL:
        if issubclass(kind, special):
            return status
    return next((status for general, status in _STATUS if issubclass(kind, general)), 500)


def problem_of(error: CustodyError, trace_id: str, errors: Sequence[FieldProblem] = ()) -> Problem:
    """The problem that shows this error. A broken invariant shows its public sentence and nothing of its values."""
    hidden = isinstance(error, InvariantViolated)
    return Problem(
        type=f"/docs/problems/{error.code}",
        title=error.public,
        status=status_of(error),
        code=error.code,
        detail=error.public if hidden else detail_of(error),
        retryable=error.retryable,
        errors=list(errors),
        trace_id=trace_id,
        confirm_url=_confirm_url(error),
    )


def _confirm_url(error: CustodyError) -> str | None:
    step_up = error.values.get("step_up")
    return None if step_up is None else f"/confirm/{step_up}"


def detail_of(error: CustodyError) -> str:
    """The sentence of this occurrence, with the ids and amounts that name the case."""
    shown = ", ".join(f"{name}={value}" for name, value in error.values.items())
    return error.message + (f" ({shown})" if shown else "")


def install(app: FastAPI) -> None:
    """Answer every error as a problem document, also those of the framework. What nobody foresaw is the edge's business."""
    app.add_exception_handler(CustodyError, _on_custody_error)
    app.add_exception_handler(FieldError, _on_field_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for kind in (DBAPIError, PoolTimeout, OSError):
        app.add_exception_handler(kind, _on_database_error)


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The HTTP response that carries a problem."""
    extra = dict(headers or {})
    if problem.status == 401:
        extra.setdefault("WWW-Authenticate", "Bearer")
    if problem.retryable:
        extra.setdefault("Retry-After", "1")
    return Response(problem.model_dump_json(), problem.status, extra, PROBLEM_MEDIA_TYPE)


def trace_id_of(request: Request) -> str:
    """The correlation id that the edge gave this request."""
    return str(request.scope.get("state", {}).get("trace_id", ""))


async def _on_custody_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, CustodyError):
        raise error
    if isinstance(error, InvariantViolated):
        structlog.get_logger().critical(
            "invariant.violated", code=error.code, error=str(error), exc_info=error
        )
    wait_s = error.values.get("retry_after_s")
    headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
    return problem_response(problem_of(error, trace_id_of(request)), headers)


async def _on_field_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, FieldError):
        raise error
    field = FieldProblem(pointer=error.pointer, code=error.cause.code)
    return problem_response(problem_of(error.cause, trace_id_of(request), [field]))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    fields = [
        FieldProblem(pointer=_pointer(item["loc"]), code=field_code(item["type"])) for item in error.errors()
    ]
    keyless = any(field.pointer.lower() == "header/idempotency-key" for field in fields)
    shown = KeyMissing() if keyless else InvalidInput()
    return problem_response(problem_of(shown, trace_id_of(request), fields))


async def _on_database_error(request: Request, error: Exception) -> Response:
    """Postgres is away or gave this transaction up: try again. Anything else that it refuses is our mistake."""
    if isinstance(error, DBAPIError) and not is_away(error):
        raise error
    structlog.get_logger().error("database.unavailable", error_type=type(error).__name__)
    return problem_response(problem_of(DatabaseUnavailable(), trace_id_of(request)))


def is_away(error: DBAPIError) -> bool:
    """Whether the database does not answer or gave the transaction up, so that the same call may succeed later."""
    known = isinstance(error, OperationalError | InterfaceError)
    return known or str(getattr(error.orig, "sqlstate", "") or "")[:2] in _SQLSTATES_AWAY


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    phrase = HTTPStatus(error.status_code).phrase
    code = re.sub(r"[^a-z]+", "_", phrase.lower())
    problem = Problem(
        type=f"/docs/problems/{code}",
        title=phrase,
        status=error.status_code,
        code=code,
        detail=phrase,
        retryable=False,
        errors=[],
        trace_id=trace_id_of(request),
    )
    return problem_response(problem, error.headers)


def neutral_problem(trace_id: str) -> Problem:
    """What a client sees of an error that we did not expect: that it happened, and how to ask about it."""
    return Problem(
        type="/docs/problems/internal_error",
        title="Something unexpected happened on our side.",
        status=500,
        code="internal_error",
        detail="Something unexpected happened on our side; repeating the call with the same key is safe.",
        retryable=False,
        errors=[],
        trace_id=trace_id,
    )


def _pointer(location: Sequence[str | int]) -> str:
    where, *path = location
    tail = "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return f"/{tail}" if where == "body" else f"{where}/{tail}"


def field_code(kind: str) -> str:
    """Our code for what the parser of bodies finds wrong with a field."""
    return _PYDANTIC_CODES.get(kind, "wrong_type" if kind.endswith("_type") else "malformed")
