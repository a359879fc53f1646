"""Finds a request's route by its path's shape instead of trying every route in turn.

The framework walks its routers for each request, which with a hundred routes costs more than answering. What is not found here
(a path that is unknown, a method that a path does not have) goes the framework's way and is answered as before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIRouter
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

Shape = tuple[str, int, str, str]
"""Method, number of segments, the first two segments, and the last one ("" where it is a parameter)."""


class Dispatch:
    """The routes by shape, in front of the framework's own search."""

    def __init__(self, routes: Iterable[APIRoute], otherwise: ASGIApp) -> None:
        """`otherwise` answers what has no route."""
        self._otherwise = otherwise
        self._routes: dict[Shape, list[APIRoute]] = defaultdict(list)
        for route in routes:
            segments = route.path.split("/")
            last = "" if segments[-1].startswith("{") else segments[-1]
            for method in route.methods or ():
                self._routes[method, len(segments), "/".join(segments[:3]), last].append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI call."""
        if scope["type"] == "http":
            segments = scope["path"].split("/")
            start = "/".join(segments[:3])
            for last in (segments[-1], ""):
                for route in self._routes.get((scope["method"], len(segments), start, last), ()):
                    match, found = route.matches(scope)
                    if match is Match.FULL:
                        scope.update(found)
                        await route.handle(scope, receive, send)
                        return
        await self._otherwise(scope, receive, send)


def install(api: FastAPI, *routers: APIRouter) -> None:
    """Have the application look here first. The routers are those that it includes, with no prefix of its own."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    api.router.middleware_stack = Dispatch(routes, api.router.middleware_stack)
