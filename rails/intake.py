"""Facts from rails into the domain: one transaction each, for the tenant whose bank account the fact is about.

A callback carries no tenant. It names our account (the payer's on a payment, the payee's on an arrival), and an account of a rail
belongs to one tenant; within that tenant a payment is found by our own reference.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from custody.banking import service as banking
from custody.db.session import Database
from custody.kernel.clock import Clock
from custody.payouts import service as payouts
from custody.payouts.model import RailObservation
from custody.receipts import service as receipts
from custody.receipts.model import BankReceipt
from rails.base import Observation

_log = structlog.get_logger(__name__)


async def apply(db: Database, clock: Clock, observations: Sequence[Observation]) -> None:
    """Take in verified facts, in order. Idempotent by rail and event id; an error leaves the facts before it applied.

    Raises UnknownBankAccount and UnknownReference for facts about accounts or payments that are not ours.
    """
    for observation in observations:
        async with db.read(None) as session:
            owner = await banking.find_bank_account(session, observation.rail, observation.account_iban)
        async with db.unit_of_work(owner.tenant) as uow:
            match observation:
                case RailObservation():
                    result = (await payouts.observe(uow, observation, clock.now())).value
                case BankReceipt():
                    result = (await receipts.observe(uow, observation)).outcome.value
        _log.info(
            "rail.observed",
            tenant=owner.tenant,
            rail=observation.rail,
            event_id=observation.external_event_id,
            result=result,
        )
