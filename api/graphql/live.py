"""Subscriptions as they run: one execution for everybody who watches the same, however many sockets that are.

A channel is one document with its variables, seen by one kind of caller. It executes each event once and gives the bytes to the
bounded queue of every member. A member that resumes reads what it missed for itself, up to where the channel stands, and then
joins the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

import orjson
import structlog
from graphql import (
    ExecutionResult,
    Executor,
    FieldNode,
    GraphQLError,
    VariableNode,
    create_source_event_stream,
)
from graphql.execution.values import get_argument_values, get_variable_values

from api.auth import Caller
from api.errors import MalformedCursor
from api.graphql.documents import Prepared
from api.graphql.execution import Graph, show_refusal, show_result
from api.graphql.subscription import Source, Watching, interest
from custody.events import feed
from custody.events.hub import FollowerTooSlow, Hub
from custody.events.model import Event
from custody.identity.model import Principal
from custody.kernel.errors import CustodyError, InvalidInput, InvariantViolated, Unavailable
from custody.kernel.ids import PrincipalId

FRAMES_MAX = 256
"""Answers that wait for one member."""
_PAGE = 200
"""Events read at once by a member that resumes."""

_log = structlog.get_logger(__name__)


class UnfitVariables(InvalidInput):
    """Variables or arguments are no values of their types."""

    code = "invalid_query"
    public = "The variables do not fit the document."


class StreamBroken(Unavailable):
    """The execution of a subscription failed on our side."""

    code = "stream_broken"
    public = "The stream broke on our side: subscribe again after the last sequence that was received."


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What somebody wants to watch."""

    caller: Caller
    prepared: Prepared
    variables: Mapping[str, Any]
    operation: str | None
    trace_id: str
    after: str | None = None
    """Where to begin, if the transport says so; it goes before the field's argument."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One answer of a subscription."""

    position: int | None
    """Place of the event that it tells; None for a refusal, after which nothing follows."""
    body: bytes
    """The JSON object."""


class Live:
    """All channels of one process."""

    def __init__(self, graph: Graph, hub: Hub) -> None:
        """Nothing runs before somebody watches."""
        self._graph = graph
        self._hub = hub
        self._channels: dict[object, _Channel] = {}

    async def watch(self, wanted: Watch) -> AsyncGenerator[Frame, None]:
        """Every answer from now on, or from behind `after`. Raises FollowerTooSlow, FeedEnds, and what `_read` raises."""
        asked = self._read(wanted)
        after = asked.after
        key = (
            view_of(wanted.caller.principal),
            wanted.prepared.name,
            wanted.operation,
            orjson.dumps(asked.variables, option=orjson.OPT_SORT_KEYS),
        )
        async with self._member(key, wanted, asked) as member:
            if after is not None and after < member.start:
                past = _Past(wanted.caller, asked.wants, after, member.start)
                async with contextlib.aclosing(_frames(self._graph, wanted, past)) as missed:
                    async for frame in missed:
                        yield frame
                        if frame.position is None:
                            return
            async for frame in member.frames():
                yield frame

    @asynccontextmanager
    async def _member(self, key: object, wanted: Watch, asked: _Asked) -> AsyncIterator[_Member]:
        channel = self._channels.get(key)
        if channel is None or channel.has_ended:
            channel = self._channels[key] = _Channel(
                self._graph, self._hub, replace(wanted, variables=asked.variables), asked.wants
            )
        try:
            async with channel.join() as member:
                yield member
        finally:
            if channel.is_empty and self._channels.get(key) is channel:
                del self._channels[key]
                await channel.close()

    def _read(self, wanted: Watch) -> _Asked:
        """What is asked for, and the variables without where to begin, so that it does not keep apart what is otherwise the same.

        Raises MalformedId, MalformedCursor, UnfitVariables.
        """
        operation = wanted.prepared.definition(wanted.operation)
        root = self._graph.core.subscription_type
        asked = operation.selection_set.selections[0]
        if root is None or not isinstance(asked, FieldNode) or asked.name.value not in root.fields:
            raise UnfitVariables("A subscription begins with one of its fields.")
        given = dict(wanted.variables)
        coerced = get_variable_values(
            self._graph.core, operation.variable_definitions or (), given, hide_suggestions=True
        )
        if isinstance(coerced, list):
            raise UnfitVariables(coerced[0].message)
        try:
            values = get_argument_values(root.fields[asked.name.value], asked, coerced)
        except GraphQLError as error:
            raise UnfitVariables(error.message) from error
        after = values.get("after") if wanted.after is None else wanted.after
        return _Asked(
            after=_place(after),
            variables=_without_after(asked, wanted.variables),
            wants=interest(asked.name.value, values),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a subscription asks for."""

    after: int | None
    variables: Mapping[str, Any]
    wants: Callable[[Event], bool]


class _Member:
    """One queue of answers."""

    def __init__(self) -> None:
        self.start = 0
        self._queue: asyncio.Queue[Frame | Unavailable] = asyncio.Queue()
        self._full = False

    def give(self, frame: Frame) -> None:
        if self._queue.qsize() < FRAMES_MAX:
            self._queue.put_nowait(frame)
        elif not self._full:
            self._full = True
            self.end(FollowerTooSlow())

    def end(self, reason: Unavailable) -> None:
        self._queue.put_nowait(reason)

    async def frames(self) -> AsyncIterator[Frame]:
        while True:
            found = await self._queue.get()
            if isinstance(found, Unavailable):
                raise found
            yield found
            if found.position is None:
                return


class _Channel:
    """One execution for all its members."""

    def __init__(self, graph: Graph, hub: Hub, wanted: Watch, wants: Callable[[Event], bool]) -> None:
        self._graph = graph
        self._hub = hub
        self._wanted = wanted
        self._wants = wants
        self._members: set[_Member] = set()
        self._begun = asyncio.Event()
        self._position = 0
        self.has_ended = False
        self._running = asyncio.get_running_loop().create_task(self._run())

    @property
    def is_empty(self) -> bool:
        return not self._members

    @asynccontextmanager
    async def join(self) -> AsyncIterator[_Member]:
        """A member that gets every answer about what lies behind its start."""
        member = _Member()
        self._members.add(member)
        try:
            if self._begun.is_set():
                member.start = self._position
            else:
                await self._begun.wait()
            yield member
        finally:
            self._members.discard(member)

    async def close(self) -> None:
        self._running.cancel()
        await asyncio.wait({self._running})

    async def _run(self) -> None:
        try:
            who = self._wanted.caller.principal
            async with self._hub.follow(who.tenant, self._wants, who.customer) as tap:
                self._position = tap.start
                for member in self._members:
                    member.start = tap.start
                self._begun.set()
                async for frame in _frames(self._graph, self._wanted, tap):
                    self._position = frame.position or self._position
                    for member in self._members:
                        member.give(frame)
        except Unavailable as error:
            self._end(error)
        except Exception:
            _log.exception("subscription.failed")
            self._end(StreamBroken())
            raise
        self.has_ended = True

    def _end(self, reason: Unavailable) -> None:
        self.has_ended = True
        self._begun.set()
        for member in self._members:
            member.end(reason)


class _Past:
    """The feed between two places, for one who resumes."""

    def __init__(self, caller: Caller, wants: Callable[[Event], bool], after: int, until: int) -> None:
        self._caller = caller
        self._wants = wants
        self._after = after
        self._until = until

    async def events(self) -> AsyncIterator[Event]:
        while self._after < self._until:
            async with self._caller.read() as session:
                found = await feed.page(session, after=self._after, types=(), limit=_PAGE, up_to=self._until)
            for event in filter(self._wants, found):
                yield event
            self._after = found[-1].position if len(found) == _PAGE else self._until


async def _frames(graph: Graph, wanted: Watch, source: Source) -> AsyncGenerator[Frame, None]:
    """The answers to a source's events; one that is a refusal where the subscription cannot begin."""
    context = Watching(wanted.caller, source)
    try:
        found = await _begin(graph, wanted, context)
        if isinstance(found, ExecutionResult):
            yield _frame(None, found, wanted.trace_id)
            return
        async with contextlib.aclosing(found) as events:
            async for event in events:
                told = await graph.run(wanted.prepared, context, wanted.variables, wanted.operation, event)
                yield _frame(context.position, told, wanted.trace_id)
    except CustodyError as error:
        if isinstance(error, Unavailable | InvariantViolated):
            raise
        yield Frame(position=None, body=orjson.dumps({"errors": [show_refusal(error, wanted.trace_id)]}))


async def _begin(
    graph: Graph, wanted: Watch, context: Watching
) -> AsyncGenerator[object, None] | ExecutionResult:
    """What the subscription's field gives, event by event; or why it gives nothing."""
    document = wanted.prepared.document
    if document is None:
        raise InvariantViolated("a document without syntax was to be watched")
    executor = Executor.build(
        graph.core,
        document,
        context_value=context,
        raw_variable_values=dict(wanted.variables),
        operation_name=wanted.operation,
        hide_suggestions=True,
    )
    if isinstance(executor, list):
        return ExecutionResult(None, executor)
    begun = create_source_event_stream(executor)
    found = await begun if inspect.isawaitable(begun) else begun
    # Ours are generators; the library promises no more than that they can be iterated over.
    return cast("AsyncGenerator[object, None] | ExecutionResult", found)


def _frame(position: int | None, result: ExecutionResult, trace_id: str) -> Frame:
    return Frame(position=position, body=orjson.dumps(show_result(result, trace_id)[0]))


def view_of(principal: Principal) -> Principal:
    """What a principal may see, whoever it is: two with the same view get the same answers."""
    return replace(
        principal, id=PrincipalId(UUID(int=0)), subject="", session="", credential=None, expires_at=None
    )


def _place(after: object) -> int | None:
    if after is None:
        return None
    if not (isinstance(after, str) and after.isascii() and after.isdigit() and len(after) < 19):
        raise MalformedCursor
    return int(after)


def _without_after(asked: FieldNode, variables: Mapping[str, Any]) -> Mapping[str, Any]:
    for argument in asked.arguments or ():
        if argument.name.value == "after" and isinstance(argument.value, VariableNode):
            return {**variables, argument.value.name.value: "0"}
    return variables
