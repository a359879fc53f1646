"""Deliveries against a real receiver and a real Postgres: once each, in order per object, retried, fenced, given up, replayed."""

from __future__ import annotations

import asyncio

import pytest

from custody.db.session import Database
from custody.events import feed, outbox
from custody.kernel.ids import TenantId, new_uuid
from custody.webhooks import execution
from custody.webhooks import service as webhooks
from custody.webhooks.errors import DeliveryOpen, EndpointNotActive, ReplayTooLong
from custody.webhooks.model import SCHEDULE_S, Answer, Outcome, Reason
from tests.fakes.webhook_receiver import receiving
from tests.integration.webhook_stage import Stage


@pytest.fixture
def stage(database: Database, tenant: TenantId) -> Stage:
    return Stage(db=database, tenant=tenant)


async def test_an_event_arrives_signed_at_each_endpoint_that_wants_it(stage: Stage) -> None:
    async with receiving() as wide, receiving() as narrow:
        _, secret = await stage.endpoint(wide.url(path="/a?b=%20c"))
        await stage.endpoint(narrow.url(), "deposit.*")
        about = await stage.happen(amount="5")
        assert await stage.settle() == 1
        assert await stage.settle() == 0
        (got,) = wide.received
        assert narrow.received == []
    assert got.verifies_with(secret)
    assert not got.verifies_with("whsec_" + "A" * 44)
    assert (got.path, got.headers["host"]) == ("/a?b=%20c", f"127.0.0.1:{wide.port}")
    assert (got.headers["webhook-id"], got.event["sequence"]) == (got.event["id"], 1)
    assert (got.event["type"], got.event["object_id"]) == ("transfer.posted", str(about))
    (delivery,) = await stage.deliveries()
    assert (delivery.state, delivery.attempts, delivery.last_status) == ("delivered", 1, 200)
    (attempt,) = await stage.log(delivery)
    assert (attempt.number, attempt.outcome, attempt.status) == (1, Outcome.DELIVERED, 200)


async def test_a_failure_is_tried_again_by_the_schedule_with_the_same_id_and_bytes(stage: Stage) -> None:
    async with receiving() as receiver:
        receiver.answers = [500, b"nonsense\r\n\r\n", 302, 200]
        await stage.endpoint(receiver.url())
        await stage.happen()
        await stage.settle()
        for pause_s in SCHEDULE_S[1:4]:
            assert await stage.settle() == 0
            stage.clock.advance(pause_s - 1)
            assert await stage.settle() == 0
            stage.clock.advance(1 + pause_s // 10 + 1)
            assert await stage.settle() == 1
    assert len({got.id for got in receiver.received}) == 1
    assert len({got.body for got in receiver.received}) == 1
    assert len({got.headers["webhook-timestamp"] for got in receiver.received}) == 4
    (delivery,) = await stage.deliveries()
    assert delivery.state == "delivered"
    assert [(a.number, a.status, a.error) for a in await stage.log(delivery)] == [
        (1, 500, "status_refused"), (2, None, "broken_answer"), (3, 302, "redirect_refused"), (4, 200, ""),
    ]  # fmt: skip


async def test_a_later_event_of_an_object_waits_for_the_earlier_one_and_others_do_not(stage: Stage) -> None:
    async with receiving() as receiver:
        receiver.answers = [500, 200]
        await stage.endpoint(receiver.url())
        first, other = await stage.happen(n=1), new_uuid()
        await stage.happen(first, n=2)
        await stage.relay()
        assert await stage.round() == 1
        await stage.happen(other, n=3)
        assert await stage.settle() == 1
        assert [got.event["data"]["n"] for got in receiver.received] == [1, 3]
        stage.clock.advance(10)
        assert await stage.settle() == 2
    assert [got.event["data"]["n"] for got in receiver.received] == [1, 3, 1, 2]


async def test_workers_side_by_side_send_each_event_once(stage: Stage) -> None:
    async with receiving() as receiver:
        await stage.endpoint(receiver.url())
        objects = [new_uuid() for _ in range(6)]
        for n in range(5):
            for each in objects:
                await stage.happen(each, n=n)
        await asyncio.gather(*(stage.relay() for _ in range(3)))
        workers = [stage.another() for _ in range(3)]
        while await stage.round(*workers):
            pass
    assert len(receiver.received) == len({got.id for got in receiver.received}) == 30
    for each in objects:
        mine = [got.event for got in receiver.received if got.event["object_id"] == str(each)]
        assert [event["data"]["n"] for event in mine] == [0, 1, 2, 3, 4]
    deliveries = await stage.deliveries()
    assert [each.position for each in deliveries] == list(range(1, 31))
    assert {each.attempts for each in deliveries} == {1}


async def test_a_worker_that_dies_after_sending_leaves_a_copy_under_the_same_id(stage: Stage) -> None:
    lease = stage.dispatcher._lease
    async with receiving() as receiver:
        endpoint, _ = await stage.endpoint(receiver.url())
        await stage.happen()
        await stage.relay()
        (claimed,) = await execution.claim_due(
            stage.db, stage.tenant, endpoint, now=stage.clock.now(), lease=lease, limit=9
        )
        await execution.send(stage.sender, stage.box, claimed, stage.clock.now())
        # Here it is killed. Until the lease ends nobody sends.
        stage.clock.advance(int(lease.total_seconds()) - 1)
        assert await stage.settle() == 0
        stage.clock.advance(2)
        assert await stage.settle() == 0
        stage.clock.advance(10)
        assert await stage.settle() == 1
        # It was not dead after all: what it has to say comes too late and changes nothing.
        late = Answer(status=500, error="status_refused", elapsed_ms=1)
        assert not await execution.record(stage.db, claimed, late, stage.clock.now())
    assert len(receiver.received) == 2
    assert len({got.id for got in receiver.received}) == 1
    (delivery,) = await stage.deliveries()
    assert (delivery.state, delivery.attempts) == ("delivered", 2)
    assert [a.outcome for a in await stage.log(delivery)] == [Outcome.LOST, Outcome.DELIVERED]
    assert (await stage.state(endpoint)).failures == 0


async def test_a_late_record_of_a_lost_attempt_is_fenced_while_the_next_is_under_way(stage: Stage) -> None:
    lease = stage.dispatcher._lease
    async with receiving() as receiver:
        endpoint, _ = await stage.endpoint(receiver.url())
        await stage.happen()
        await stage.relay()

        async def claim() -> list[execution.Claimed]:
            return await execution.claim_due(
                stage.db, stage.tenant, endpoint, now=stage.clock.now(), lease=lease, limit=9
            )

        (old,) = await claim()
        stage.clock.advance(int(lease.total_seconds()) + 1)
        await stage.settle()
        stage.clock.advance(10)
        (new,) = await claim()
        done = Answer(status=200, error="", elapsed_ms=1)
        assert not await execution.record(stage.db, old, done, stage.clock.now())
        assert await execution.record(stage.db, new, done, stage.clock.now())
        assert not await execution.record(stage.db, new, done, stage.clock.now())
    assert (old.number, new.number) == (1, 2)


async def test_410_disables_the_endpoint_and_abandons_what_waits(stage: Stage) -> None:
    async with receiving() as gone, receiving() as other:
        gone.answers = [410]
        endpoint, _ = await stage.endpoint(gone.url())
        await stage.endpoint(other.url(), "webhook_endpoint.*")
        about = await stage.happen()
        await stage.happen(about)
        await stage.settle()
        await stage.happen()
        await stage.settle()
        assert len(gone.received) == 1
        (heard,) = [got.event for got in other.received]
    assert (heard["type"], heard["data"]["reason"], heard["data"]["host"]) == (
        "webhook_endpoint.disabled", "gone", "127.0.0.1",
    )  # fmt: skip
    found = await stage.state(endpoint)
    assert (found.state, found.reason) == ("disabled", Reason.GONE)
    assert [each.state for each in await stage.deliveries(endpoint)] == ["abandoned", "abandoned"]


async def exhaust(stage: Stage) -> None:
    """Go through the whole schedule."""
    for _ in range(len(SCHEDULE_S) + 8):
        await stage.settle()
        stage.clock.advance(86400 + 8641)


async def test_a_used_up_schedule_disables_an_endpoint_that_nothing_reaches(stage: Stage) -> None:
    async with receiving() as receiver:
        receiver.answers = [503]
        endpoint, _ = await stage.endpoint(receiver.url())
        await stage.happen()
        await exhaust(stage)
        assert len(receiver.received) == len(SCHEDULE_S)
    (delivery,) = await stage.deliveries()
    assert (delivery.state, delivery.tries) == ("exhausted", 10)
    assert (await stage.state(endpoint)).reason is Reason.EXHAUSTED
    (told,) = await stage.told("webhook_delivery.exhausted")
    assert (told["delivery_id"], told["tries"], told["status"]) == (str(delivery.id), 10, 503)
    assert len(await stage.told("webhook_endpoint.disabled")) == 1


async def test_one_poisonous_event_does_not_cost_the_endpoint(stage: Stage) -> None:
    async with receiving() as receiver:

        async def judge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            status = 500 if b"poison" in receiver.received[-1].body else 200
            writer.write(f"HTTP/1.1 {status} Told\r\n\r\n".encode())

        receiver.answers = [judge]
        endpoint, _ = await stage.endpoint(receiver.url())
        await stage.happen(word="poison")
        await stage.happen(word="bread")
        await exhaust(stage)
    assert sorted(each.state for each in await stage.deliveries()) == ["delivered", "exhausted"]
    assert (await stage.state(endpoint)).state == "active"
    assert len(await stage.told("webhook_delivery.exhausted")) == 1


async def test_an_open_circuit_lets_one_probe_through_and_closes_when_it_arrives(stage: Stage) -> None:
    async with receiving() as receiver:
        receiver.answers = [500]
        endpoint, _ = await stage.endpoint(receiver.url())
        for _ in range(12):
            await stage.happen()
        await stage.settle()
        # Four at a time: the fifth failure came with the second four.
        assert len(receiver.received) == 8
        stage.clock.advance(301)
        probes = await stage.round(*(stage.another() for _ in range(3)))
        assert (probes, len(receiver.received)) == (1, 9)
        receiver.answers = [200]
        stage.clock.advance(600)
        assert await stage.round() == 1
        found = await stage.state(endpoint)
        assert (found.failures, found.circuit_until) == (0, None)
        await stage.settle()
        assert len({got.id for got in receiver.received}) == 12
    assert {each.state for each in await stage.deliveries()} == {"delivered"}


async def test_a_slow_receiver_times_out_and_keeps_nobody_waiting(stage: Stage) -> None:
    async def dawdle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(100):
            writer.write(b"HTTP/1.1 200 OK\r\nx: "[:1])
            await writer.drain()
            await asyncio.sleep(0.2)

    async with receiving() as slow, receiving() as quick:
        slow.answers = [dawdle]
        late, _ = await stage.endpoint(slow.url())
        await stage.happen()
        await stage.relay()
        async with asyncio.TaskGroup() as group:
            assert await stage.dispatcher.round(group) == 1
            await slow.arrived.wait()
            await stage.endpoint(quick.url())
            await stage.happen()
            await stage.relay()
            assert await stage.dispatcher.round(group) == 2
            await quick.arrived.wait()
            assert all(each.state == "sending" for each in await stage.deliveries(late))
    assert {each.last_error for each in await stage.deliveries(late)} == {"timeout"}


async def test_an_endless_answer_is_not_read(stage: Stage) -> None:
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            written += 65536

    async def shower(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x-more: " + b"x" * 65536 + b"\r\n")
            await writer.drain()

    async with receiving() as receiver:
        receiver.answers = [flood, shower]
        await stage.endpoint(receiver.url())
        await stage.happen()
        await stage.happen()
        await stage.settle()
    assert sorted((d.state, d.last_error) for d in await stage.deliveries()) == [
        ("delivered", ""), ("waiting", "broken_answer"),
    ]  # fmt: skip
    assert written < 64 * 2**20


async def test_a_change_of_secret_signs_twice_until_the_old_one_ends(stage: Stage) -> None:
    async with receiving() as receiver:
        endpoint, first = await stage.endpoint(receiver.url())

        async def rotate(overlap_s: int) -> str:
            async with stage.db.unit_of_work(stage.tenant) as uow:
                _, secret = await webhooks.rotate_secret(
                    uow, "test", endpoint, overlap_s=overlap_s, now=stage.clock.now(), box=stage.box
                )
            return secret

        async def signers(*secrets: str) -> list[bool]:
            await stage.happen()
            await stage.settle()
            return [receiver.received[-1].verifies_with(secret) for secret in secrets]

        second = await rotate(3600)
        stage.clock.advance(10)
        assert await signers(first, second) == [True, True]
        third = await rotate(100)
        assert await signers(first, second, third) == [False, True, True]
        stage.clock.advance(101)
        assert await signers(second, third) == [False, True]
        fourth = await rotate(0)
        assert await signers(third, fourth) == [False, True]
        assert len(receiver.received[-1].headers["webhook-signature"].split(" ")) == 1


async def test_replays_send_what_did_not_arrive_and_what_was_never_sent(stage: Stage) -> None:
    async with receiving() as receiver:
        await stage.happen(n=0)
        await stage.relay()
        endpoint, _ = await stage.endpoint(receiver.url(), "transfer.*")
        await stage.happen(n=1)
        await stage.settle()
        async with stage.db.unit_of_work(stage.tenant) as uow:
            await webhooks.disable(uow, "test", endpoint)
        await stage.happen(n=2)
        await stage.happen(kind="receipt.credited", n=3)
        await stage.settle()
        async with stage.db.unit_of_work(stage.tenant) as uow:
            with pytest.raises(EndpointNotActive):
                await webhooks.replay_range(
                    uow, "test", endpoint, first=1, last=9, delivered=False, now=stage.clock.now()
                )
            await webhooks.enable(uow, "test", endpoint)

        async def again(delivered: bool, last: int = 100) -> int:
            async with stage.db.unit_of_work(stage.tenant) as uow:
                return await webhooks.replay_range(
                    uow, "test", endpoint, first=1, last=last, delivered=delivered, now=stage.clock.now()
                )

        assert await again(False) == 2
        assert await again(False) == 0
        await stage.settle()
        assert [got.event["data"]["n"] for got in receiver.received] == [1, 0, 2]
        assert await again(True) == 3
        (one, *_) = await stage.deliveries()
        async with stage.db.unit_of_work(stage.tenant) as uow:
            with pytest.raises(DeliveryOpen):
                await webhooks.replay(uow, "test", one.id, stage.clock.now())
        await stage.settle()
        async with stage.db.unit_of_work(stage.tenant) as uow:
            await webhooks.replay(uow, "test", one.id, stage.clock.now())
        await stage.settle()
        with pytest.raises(ReplayTooLong):
            await again(False, last=5001)
        with pytest.raises(ReplayTooLong):
            await again(False, last=0)
    assert len(receiver.received) == 7
    (one, *_) = await stage.deliveries()
    assert (one.attempts, one.tries, one.state) == (3, 1, "delivered")


async def test_a_deleted_endpoint_is_sent_nothing_and_keeps_its_history(
    stage: Stage, database: Database, other_tenant: TenantId
) -> None:
    async with receiving() as receiver:
        endpoint, _ = await stage.endpoint(receiver.url())
        await stage.happen()
        await stage.settle()
        await stage.happen()
        await stage.relay()
        async with database.unit_of_work(stage.tenant) as uow:
            await webhooks.delete(uow, "test", endpoint, stage.clock.now())
            assert (await webhooks.delete(uow, "test", endpoint, stage.clock.now())).state == "deleted"
        await stage.happen()
        assert await stage.settle() == 0
        rival = Stage(db=database, tenant=other_tenant)
        await rival.happen()
        assert await rival.settle() == 0
    assert [each.state for each in await stage.deliveries()] == ["delivered", "abandoned"]
    assert await rival.deliveries() == []


async def test_the_feed_has_no_gap_even_when_a_slow_writer_commits_last(stage: Stage) -> None:
    """The sequence of the table is taken at the insert: a reader that went by it would miss what commits late."""
    late = new_uuid()
    async with stage.db.unit_of_work(stage.tenant) as uow:
        await outbox.emit(uow, "transfer.posted", late, {})
        early = await stage.happen()
        await stage.relay()
        async with stage.db.read(stage.tenant) as session:
            (seen,) = await feed.page(session, after=0, types=(), limit=10)
        assert (seen.object_id, seen.position) == (early, 1)
    await stage.relay()
    async with stage.db.read(stage.tenant) as session:
        (missed,) = await feed.page(session, after=seen.position, types=(), limit=10)
    assert (missed.object_id, missed.position) == (late, 2)
    assert missed.sequence < seen.sequence
