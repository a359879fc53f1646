"""How a mutation is carried out: checked, under the caller's key, in one transaction with the record of its answer.

A repeated key with the same content is answered with what came of it, as it is now; with other content it is refused. What is
expected to go wrong is told in the payload, with a code. The rules and the keys are those of REST.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

import orjson
import strawberry
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from strawberry.types import Info

from api.auth import Caller
from api.errors import DatabaseUnavailable, FieldError, KeyMissing, detail_of, field_code, is_away
from api.graphql.context import Context
from api.strict_json import fingerprint
from custody.db.session import UnitOfWork
from custody.idempotency import service as idempotency
from custody.identity import service as identity
from custody.kernel.errors import CustodyError, InvariantViolated
from custody.kernel.ids import derived_uuid

Ctx = Info[Context, None]
Body = TypeVar("Body", bound=BaseModel)

_KEY_MAX = 128
_MADE = 200
"""What is recorded as the status of a mutation's answer."""


@strawberry.enum
class MutationStatus(Enum):
    """What came of a mutation."""

    DONE = strawberry.enum_value("done", description="It is done, for good.")
    PENDING = strawberry.enum_value(
        "pending", description="It is accepted and goes on: the object's state tells how far it is."
    )
    ALREADY_EXISTS = strawberry.enum_value(
        "already_exists",
        description="The same key came with the same content before; the object is shown as it is now.",
    )
    REFUSED = strawberry.enum_value("refused", description="Nothing was changed: `errors` say why.")
    UNKNOWN = strawberry.enum_value(
        "unknown",
        description="We lost sight of it, and it may be done: the same call with the same key tells, and does nothing twice.",
    )


@strawberry.type
class MutationError:
    """Why nothing was changed, or is not known to be. Branch on `code`; `field` is the input's field that is wrong, where one is.
    `retryable`: the same call with the same key may succeed later."""

    code: str
    message: str
    field: str | None
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What came of a mutation, before it is shown."""

    status: MutationStatus
    id: UUID | None
    """What it made or changed; None where it was refused or is not known."""
    errors: list[MutationError]


class MutationCommand:
    """One mutation, named as in the schema, under its caller's key."""

    def __init__(self, caller: Caller, name: str, key: str, content: dict[str, Any]) -> None:
        """`content`: the input without the key, in JSON values. Raises KeyMissing."""
        if not (0 < len(key) <= _KEY_MAX and key.isascii() and key.isprintable() and " " not in key):
            raise KeyMissing("The argument idempotencyKey must be 1 to 128 visible ASCII characters.")
        self.caller = caller
        self._key = key
        self._mark = fingerprint("MUTATION", name, content)

    def derived_id(self, kind: str) -> UUID:
        """The request id of an effect that spans several transactions: the same each time the mutation is repeated."""
        return derived_uuid(kind, self.caller.principal.tenant, self.caller.principal.id, self._key)

    async def recorded(self) -> UUID | None:
        """What the first call with this key made, if there was one. Raises KeyReused."""
        principal = self.caller.principal
        async with self.caller.app.db.unit_of_work(principal.tenant) as uow:
            replay = await idempotency.begin(uow, principal, self._key, self._mark)
        return None if replay is None else UUID(orjson.loads(replay.body)["id"])

    async def run(self, effect: Callable[[UnitOfWork], Awaitable[UUID]]) -> tuple[UUID, bool]:
        """Carry out the effect and record it in one transaction. Returns what it made, and whether it was made before."""
        principal = self.caller.principal
        async with self.caller.app.db.unit_of_work(principal.tenant) as uow:
            replay = await idempotency.begin(uow, principal, self._key, self._mark)
            if replay is not None:
                return UUID(orjson.loads(replay.body)["id"]), True
            made = await effect(uow)
            body = orjson.dumps({"id": made.hex})
            await idempotency.record(uow, principal, self._key, self._mark, _MADE, body)
        return made, False


async def carry_out(
    caller: Caller,
    scope: str,
    then: MutationStatus,
    work: Callable[[], Awaitable[tuple[UUID, bool]]],
) -> Carried:
    """What came of `work`, which returns what it made and whether it was made before. `then`: the status of a first call."""
    try:
        identity.demand(caller.principal, scope)
        made, repeated = await work()
    except ValidationError as error:
        return _refused([_field_error(item) for item in error.errors(include_input=False, include_url=False)])
    except FieldError as error:
        return _refused([_error(error.cause, error.pointer.lstrip("/"))])
    except InvariantViolated:
        raise
    except CustodyError as error:
        return _refused([_error(error)])
    except (DBAPIError, PoolTimeout, OSError) as error:
        if isinstance(error, DBAPIError) and not is_away(error):
            raise
        # A commit may have arrived although nobody heard so.
        return Carried(status=MutationStatus.UNKNOWN, id=None, errors=[_error(DatabaseUnavailable())])
    return Carried(status=MutationStatus.ALREADY_EXISTS if repeated else then, id=made, errors=[])


def checked(kind: type[Body], /, **fields: object) -> Body:
    """A body of REST out of a mutation's input: the same rules for both. Raises ValidationError."""
    return kind.model_validate({name: value for name, value in fields.items() if value is not None})


def command_of(info: Ctx, name: str, given: Any) -> MutationCommand:
    """The mutation of this name and input. Raises KeyMissing."""
    content = strawberry.asdict(given)
    key = str(content.pop("idempotency_key"))
    return MutationCommand(info.context.caller, name, key, _plain(content))


def fresh(info: Ctx) -> Ctx:
    """The same, with nothing remembered from before the commit."""
    info.context.forget()
    return info


def _plain(value: Any) -> Any:
    """JSON values, for the fingerprint."""
    match value:
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list():
            return [_plain(each) for each in value]
        case None | str() | int():
            return value
        case _:
            return value.value


def _refused(errors: list[MutationError]) -> Carried:
    return Carried(status=MutationStatus.REFUSED, id=None, errors=errors)


def _error(error: CustodyError, field: str | None = None) -> MutationError:
    return MutationError(
        code=error.code, message=detail_of(error), field=_camel(field), retryable=error.retryable
    )


def _field_error(item: Any) -> MutationError:
    return MutationError(
        code=field_code(item["type"]),
        message=str(item["msg"]),
        field=_camel("/".join(str(part) for part in item["loc"])),
        retryable=False,
    )


def _camel(field: str | None) -> str | None:
    """A field as the input spells it."""
    if field is None:
        return None
    first, *rest = field.split("_")
    return first + "".join(part.title() for part in rest)
