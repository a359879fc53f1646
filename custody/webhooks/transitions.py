"""The life of an endpoint and of a delivery, as data."""

from __future__ import annotations

from custody.kernel.transitions import Transition, TransitionTable

WEBHOOK_ENDPOINTS = TransitionTable(
    "webhook_endpoint",
    "active",
    (
        # An operator switched it off, it answered 410, or a delivery ran out of tries while none got through.
        Transition("active", "disable", "disabled"),
        # An operator switched it on again; what it missed is replayed on request only.
        Transition("disabled", "enable", "active"),
        # Its history stays; it never sends again.
        Transition("active", "delete", "deleted"),
        # The same for one that was off.
        Transition("disabled", "delete", "deleted"),
    ),
)

WEBHOOK_DELIVERIES = TransitionTable(
    "webhook_delivery",
    "waiting",
    (
        # A worker took it under a lease and is about to send.
        Transition("waiting", "claim", "sending"),
        # The receiver answered 2xx.
        Transition("sending", "deliver", "delivered"),
        # Any other answer, or none: it is tried again by the schedule.
        Transition("sending", "fail", "waiting"),
        # The worker did not come back before its lease ended; whether the receiver got it is unknown, so that it is sent again
        # under the same id.
        Transition("sending", "lose", "waiting"),
        # The last try of the schedule failed.
        Transition("sending", "exhaust", "exhausted"),
        # The receiver answered 410, or the endpoint was switched off while it was on its way and did not arrive.
        Transition("sending", "abandon", "abandoned"),
        # The endpoint was switched off before its turn came.
        Transition("waiting", "abandon", "abandoned"),
        # Somebody asked for it once more: a new round of tries, the same id.
        Transition("delivered", "replay", "waiting"),
        # The same after the schedule was exhausted.
        Transition("exhausted", "replay", "waiting"),
        # The same after the endpoint was switched on again.
        Transition("abandoned", "replay", "waiting"),
    ),
)
