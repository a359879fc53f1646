"""What every rail adapter must do, run against the real counterpart over HTTP. A new rail adds itself to `rail_under_test`."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook

from custody.banking.model import EntryKind
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import PayoutId, new_uuid
from custody.kernel.money import Amount
from custody.payouts.model import (
    Accepted,
    Declined,
    Lost,
    Mismatched,
    PaymentInstruction,
    RailEvent,
    RailObservation,
    build_reference,
    difference,
)
from custody.receipts.model import BankReceipt
from devnet.bank.ibans import (
    GARBLED,
    NEVER_TOLD,
    NORMAL,
    OUTAGE_FIRST,
    REFUSED,
    REJECTED_LATER,
    RETURNED,
    STALLED,
    TOLD_OUT_OF_ORDER,
    TOLD_TWICE,
    sandbox_iban,
)
from rails.base import (
    Absent,
    BadCallbackSignature,
    Found,
    MalformedCallback,
    Rail,
    RailUnavailable,
    Unanswered,
)
from rails.sandbox.adapter import BadCallbackSecret, SandboxRail
from tests.fakes.bank_process import OUR_IBAN, SECRET, BankProcess, CallbackListener, free_port

EUR = parse_asset_id("fiat/EUR")


@pytest.fixture
async def listener() -> AsyncIterator[CallbackListener]:
    started = CallbackListener(free_port())
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def bank(tmp_path: Path, listener: CallbackListener) -> AsyncIterator[BankProcess]:
    started = BankProcess(tmp_path, listener.url)
    await started.start()
    await started.pay_in(100_000, "float")
    yield started
    await started.kill()


@pytest.fixture
async def rail_under_test(bank: BankProcess) -> AsyncIterator[Rail]:
    rail = SandboxRail("sandbox", base_url=bank.url, callback_secret=SECRET, timeout_s=0.8)
    yield rail
    await rail.aclose()


def make_instruction(ending: int = NORMAL, atomic: int = 2_500) -> PaymentInstruction:
    return PaymentInstruction(
        rail="sandbox",
        reference=build_reference(PayoutId(new_uuid())),
        account_iban=OUR_IBAN,
        beneficiary_iban=sandbox_iban(ending),
        beneficiary_name="Grace Hopper",
        amount=Amount(EUR, atomic),
        remittance="Invoice 7421",
    )


async def history_until(rail: Rail, reference: str, last: RailEvent) -> tuple[RailObservation, ...]:
    """Ask by our own reference until the history ends with this event; the test's own time limit ends a wait in vain."""
    while True:
        answer = await rail.status(reference)
        if isinstance(answer, Found) and answer.observations[-1].event is last:
            return answer.observations
        await asyncio.sleep(0.03)


async def callbacks_until(listener: CallbackListener, number: int) -> list[tuple[dict[str, str], bytes]]:
    """Wait for so many deliveries after the float's own."""
    await listener.wait_for(number + 1)
    return listener.received[1:]


async def test_an_accepted_payment_settles_and_echoes_what_was_asked(rail_under_test: Rail) -> None:
    instruction = make_instruction()
    report = await rail_under_test.submit(instruction)
    assert isinstance(report, Accepted)
    told = await history_until(rail_under_test, instruction.reference, RailEvent.SETTLED)
    assert [item.event for item in told] == [RailEvent.ACCEPTED, RailEvent.SETTLED]
    assert {item.external_ref for item in told} == {report.external_ref}
    assert all(difference(instruction, item) is None for item in told)


async def test_the_same_reference_pays_once_however_often_it_is_sent(rail_under_test: Rail) -> None:
    instruction = make_instruction()
    reports = await asyncio.gather(*(rail_under_test.submit(instruction) for _ in range(5)))
    assert len({report.external_ref for report in reports if isinstance(report, Accepted)}) == 1
    await history_until(rail_under_test, instruction.reference, RailEvent.SETTLED)
    assert await rail_under_test.submit(instruction) == reports[0]
    today = datetime.now(UTC).date()
    statement = await rail_under_test.statement(OUR_IBAN, today - timedelta(days=1), today)
    assert [entry.amount for entry in statement.entries] == [100_000, -2_500]


async def test_a_reference_with_another_order_is_no_acceptance(rail_under_test: Rail) -> None:
    instruction = make_instruction()
    await rail_under_test.submit(instruction)
    other = replace(instruction, amount=Amount(EUR, 2_501))
    assert await rail_under_test.submit(other) == Mismatched(field="reference_reused", external_ref="")


@pytest.mark.parametrize(("ending", "atomic", "code"), [(REFUSED, 2_500, "AC01"), (NORMAL, 100_001, "AM04")])
async def test_a_refusal_is_final_and_carries_its_code(
    rail_under_test: Rail, ending: int, atomic: int, code: str
) -> None:
    instruction = make_instruction(ending, atomic)
    assert await rail_under_test.submit(instruction) == Declined(code=code)
    assert await rail_under_test.submit(instruction) == Declined(code=code)
    (told,) = await history_until(rail_under_test, instruction.reference, RailEvent.REJECTED)
    assert told.code == code


async def test_an_answer_that_comes_too_late_is_lost_and_found_by_status(rail_under_test: Rail) -> None:
    instruction = make_instruction(STALLED)
    assert await rail_under_test.submit(instruction) == Lost(cause="TimeoutError")
    await history_until(rail_under_test, instruction.reference, RailEvent.SETTLED)


async def test_an_outage_is_lost_and_the_reference_absent_until_sent_again(rail_under_test: Rail) -> None:
    instruction = make_instruction(OUTAGE_FIRST)
    assert isinstance(await rail_under_test.submit(instruction), Lost)
    assert await rail_under_test.status(instruction.reference) == Absent()
    assert isinstance(await rail_under_test.submit(instruction), Accepted)


async def test_an_echo_that_differs_is_no_acceptance(rail_under_test: Rail) -> None:
    report = await rail_under_test.submit(make_instruction(GARBLED))
    assert isinstance(report, Mismatched)
    assert report.field == "amount"


async def test_a_dead_bank_is_lost_unanswered_and_unavailable(
    rail_under_test: Rail, bank: BankProcess
) -> None:
    await bank.kill()
    instruction = make_instruction()
    assert isinstance(await rail_under_test.submit(instruction), Lost)
    assert isinstance(await rail_under_test.status(instruction.reference), Unanswered)
    today = datetime.now(UTC).date()
    with pytest.raises(RailUnavailable):
        await rail_under_test.statement(OUR_IBAN, today, today)


async def test_a_bank_killed_and_started_again_has_forgotten_nothing(
    rail_under_test: Rail, bank: BankProcess
) -> None:
    instruction = make_instruction()
    report = await rail_under_test.submit(instruction)
    await bank.kill()
    await bank.start()
    assert await rail_under_test.submit(instruction) == report
    await history_until(rail_under_test, instruction.reference, RailEvent.SETTLED)


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (NORMAL, ["settled"]),
        (REJECTED_LATER, ["rejected"]),
        (RETURNED, ["settled", "returned"]),
        (TOLD_TWICE, ["settled", "settled"]),
        (TOLD_OUT_OF_ORDER, ["returned", "settled"]),
        (NEVER_TOLD, []),
    ],
)
async def test_callbacks_tell_the_same_facts_as_status(
    rail_under_test: Rail, listener: CallbackListener, ending: int, expected: list[str]
) -> None:
    instruction = make_instruction(ending)
    await rail_under_test.submit(instruction)
    deliveries = await callbacks_until(listener, len(expected))
    told = [rail_under_test.parse_callback(headers, body)[0] for headers, body in deliveries]
    facts = [item for item in told if isinstance(item, RailObservation)]
    assert [item.event.value for item in facts] == expected
    last = (
        RailEvent.RETURNED if "returned" in expected else RailEvent(expected[-1] if expected else "settled")
    )
    known = await history_until(rail_under_test, instruction.reference, last)
    by_id = {item.external_event_id: replace(item, raw_sha256=b"") for item in known}
    assert all(by_id[item.external_event_id] == replace(item, raw_sha256=b"") for item in facts)


async def test_a_callback_is_repeated_until_it_is_confirmed(
    rail_under_test: Rail, listener: CallbackListener, bank: BankProcess
) -> None:
    await callbacks_until(listener, 0)
    listener.status = 503
    await bank.pay_in(700, "rent")
    first, second = (await callbacks_until(listener, 2))[:2]
    listener.status = 204
    assert first[1] == second[1]
    assert rail_under_test.parse_callback(*first) == rail_under_test.parse_callback(*second)


async def test_an_arrival_is_told_with_its_payer_and_text(
    rail_under_test: Rail, listener: CallbackListener, bank: BankProcess
) -> None:
    await callbacks_until(listener, 0)
    incoming = await bank.pay_in(700, "RF18 5390 0754 7034")
    (delivery,) = await callbacks_until(listener, 1)
    (told,) = rail_under_test.parse_callback(*delivery)
    assert isinstance(told, BankReceipt)
    assert (told.amount, told.remittance) == (Amount(EUR, 700), "RF18 5390 0754 7034")
    assert (told.external_ref, told.account_iban) == (incoming["id"], OUR_IBAN)


async def test_a_statement_leads_from_opening_to_closing(rail_under_test: Rail) -> None:
    instruction = make_instruction(RETURNED)
    await rail_under_test.submit(instruction)
    await history_until(rail_under_test, instruction.reference, RailEvent.RETURNED)
    today = datetime.now(UTC).date()
    statement = await rail_under_test.statement(OUR_IBAN, today - timedelta(days=1), today)
    assert [(entry.kind, entry.amount) for entry in statement.entries] == [
        (EntryKind.INCOMING, 100_000),
        (EntryKind.PAYMENT, -2_500),
        (EntryKind.RETURN, 2_500),
    ]
    assert (statement.opening, statement.closing) == (0, 100_000)
    assert {entry.reference for entry in statement.entries} == {"", instruction.reference}
    later = await rail_under_test.statement(OUR_IBAN, today + timedelta(days=1), today + timedelta(days=2))
    assert (later.opening, later.closing, later.entries) == (100_000, 100_000, ())


def signed(
    body: bytes, *, event_id: str = "evt_1", at: datetime | None = None, secret: str = SECRET
) -> dict[str, str]:
    """Headers as the rail signs them."""
    moment = at or datetime.now(UTC)
    signature = Webhook(secret).sign(msg_id=event_id, timestamp=moment, data=body.decode())
    return {
        "Webhook-Id": event_id,
        "Webhook-Timestamp": str(int(moment.timestamp())),
        "Webhook-Signature": signature,
    }


PAYMENT = {
    "id": "pmt_1",
    "status": "settled",
    "end_to_end_id": "CP1",
    "debtor_iban": OUR_IBAN,
    "creditor_iban": sandbox_iban(NORMAL),
    "creditor_name": "Grace Hopper",
    "amount": "2500",
    "currency": "EUR",
    "remittance": "",
}
EVENT = {"id": "evt_1", "status": "settled", "code": "", "at": "2026-11-23T06:00:00+00:00"}
BODY = {"type": "payment.settled", "event": EVENT, "payment": PAYMENT}
OTHER_SECRET = "whsec_" + base64.b64encode(b"some other secret of 24 bytes").decode()


def encode(body: object) -> bytes:
    return json.dumps(body).encode()


def test_a_rightly_signed_callback_is_read(unconnected: Rail) -> None:
    (told,) = unconnected.parse_callback(signed(encode(BODY)), encode(BODY))
    assert isinstance(told, RailObservation)
    assert (told.event, told.amount) == (RailEvent.SETTLED, Amount(EUR, 2_500))


@pytest.fixture
async def unconnected() -> AsyncIterator[Rail]:
    rail = SandboxRail("sandbox", base_url="http://127.0.0.1:1", callback_secret=SECRET, timeout_s=0.2)
    yield rail
    await rail.aclose()


FORGERIES: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "no headers": lambda _: {},
    "id only": lambda _: {"webhook-id": "evt_1"},
    "other secret": lambda _: signed(encode(BODY), secret=OTHER_SECRET),
    "other body": lambda _: signed(encode({**BODY, "type": "payment.returned"})),
    "too old": lambda _: signed(encode(BODY), at=datetime.now(UTC) - timedelta(minutes=6)),
    "from the future": lambda _: signed(encode(BODY), at=datetime.now(UTC) + timedelta(hours=1)),
    "other id": lambda good: {**good, "Webhook-Id": "evt_2"},
    "time is a word": lambda good: {**good, "Webhook-Timestamp": "now"},
    "time too large": lambda good: {**good, "Webhook-Timestamp": "9" * 30},
    "time is no number": lambda good: {**good, "Webhook-Timestamp": "nan"},
    "no value": lambda good: {**good, "Webhook-Signature": "v1"},
    "empty value": lambda good: {**good, "Webhook-Signature": "v1,"},
    "no base64": lambda good: {**good, "Webhook-Signature": "v1,%%%"},
    "two commas": lambda good: {**good, "Webhook-Signature": "v1,a,b"},
    "unknown version": lambda good: {**good, "Webhook-Signature": "v2," + good["Webhook-Signature"][3:]},
    "empty": lambda good: {**good, "Webhook-Signature": ""},
}
"""What an attacker may send instead of rightly signed headers. Made when the test runs, because signatures age."""


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_bad_signature_is_refused(unconnected: Rail, forgery: str) -> None:
    with pytest.raises(BadCallbackSignature):
        unconnected.parse_callback(FORGERIES[forgery](signed(encode(BODY))), encode(BODY))


def test_a_body_changed_by_one_byte_is_refused(unconnected: Rail) -> None:
    body = encode(BODY)
    with pytest.raises(BadCallbackSignature):
        unconnected.parse_callback(signed(body), body.replace(b"2500", b"2501"))
    with pytest.raises(BadCallbackSignature):
        unconnected.parse_callback(signed(body), body + b"\xff")


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {**BODY, "type": "payment.imagined"},
        {**BODY, "event": {**EVENT, "id": "evt_2"}},
        {**BODY, "event": {**EVENT, "status": "lost"}},
        {**BODY, "event": {**EVENT, "at": "yesterday"}},
        {**BODY, "event": {**EVENT, "at": "2026-11-23T06:00:00"}},
        {**BODY, "payment": None},
        {**BODY, "payment": {**PAYMENT, "amount": 2500}},
        {**BODY, "payment": {**PAYMENT, "amount": "25.00"}},
        {**BODY, "payment": {**PAYMENT, "amount": "1e3"}},
        {**BODY, "payment": {**PAYMENT, "currency": "euro"}},
        {**BODY, "payment": {name: value for name, value in PAYMENT.items() if name != "creditor_iban"}},
    ],
)
def test_a_signed_callback_of_another_form_is_malformed(unconnected: Rail, body: object) -> None:
    with pytest.raises(MalformedCallback):
        unconnected.parse_callback(signed(encode(body)), encode(body))


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_AAAA", "secret", base64.b64encode(bytes(32)).decode()]
)
def test_a_weak_secret_is_refused_at_the_start(secret: str) -> None:
    with pytest.raises(BadCallbackSecret):
        SandboxRail("sandbox", base_url="http://127.0.0.1:1", callback_secret=secret, timeout_s=1)
