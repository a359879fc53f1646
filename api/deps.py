"""What the application object carries for its requests."""

from __future__ import annotations

from fastapi import Request

from api.gate import Gate
from api.limits import RateLimits
from api.metrics import Metrics
from custody.bootstrap import App
from custody.db.grouped import Grouped
from custody.kernel.errors import InvariantViolated
from custody.ledger.poster import Poster
from custody.transfers.together import AnswerToTransfer, AskedTransfer
from rails.registry import RailRegistry

TransferDesk = Grouped[AskedTransfer, AnswerToTransfer]


def app_of(request: Request) -> App:
    """The services that this process was built with."""
    found = request.app.state.custody
    if not isinstance(found, App):
        raise InvariantViolated("the API was started without its services")
    return found


def gate_of(request: Request) -> Gate:
    """This process's door."""
    found = request.app.state.gate
    if not isinstance(found, Gate):
        raise InvariantViolated("the API was started without its gate")
    return found


def metrics_of(request: Request) -> Metrics:
    """This application's measurements."""
    found = request.app.state.metrics
    if not isinstance(found, Metrics):
        raise InvariantViolated("the API was started without its measurements")
    return found


def poster_of(request: Request) -> Poster:
    """This process's batcher of postings."""
    found = request.app.state.poster
    if not isinstance(found, Poster):
        raise InvariantViolated("the API was started without its batcher")
    return found


def batcher_of(app: App) -> Poster:
    """The same, where there is no request at hand."""
    if app.poster is None:
        raise InvariantViolated("the API was started without its batcher")
    return app.poster


def transfers_of(request: Request) -> TransferDesk:
    """Where transfers share their transactions."""
    found = request.app.state.transfers
    if not isinstance(found, Grouped):
        raise InvariantViolated("the API was started without its transfers")
    return found


def limits_of(request: Request) -> RateLimits:
    """How often each caller may ask."""
    found = request.app.state.limits
    if not isinstance(found, RateLimits):
        raise InvariantViolated("the API was started without its limits")
    return found


def route_of(request: Request) -> str:
    """The template of the route that matched, as labels show it."""
    return str(getattr(request.scope.get("route"), "path", "unmatched"))


def rails_of(request: Request) -> RailRegistry:
    """The rails whose callbacks this process verifies."""
    found = request.app.state.rails
    if not isinstance(found, RailRegistry):
        raise InvariantViolated("the API was started without its rails")
    return found
