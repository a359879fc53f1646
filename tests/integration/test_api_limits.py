"""Rate limits: one window over all processes, told in headers, and never an outage when Valkey is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from api.errors import TooManyRequests
from api.limits import REFUSALS_PER_MINUTE, RateLimits
from api.main import create_app
from api.metrics import Metrics
from custody import bootstrap
from custody.settings import RedisSettings
from tests.integration.api_harness import Harness, make_settings
from tests.integration.api_server import served
from tests.integration.test_withdrawals_worker import Valkey

QUOTA = 40
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    made = Valkey(Path(tmp_path_factory.mktemp("valkey")))
    made.start()
    yield made
    made.kill()


def made(url: str, quota: int = QUOTA) -> tuple[RateLimits, Metrics]:
    metrics = Metrics()
    return RateLimits(url, {"read": quota}, metrics), metrics


async def granted(limits: list[RateLimits], asked: int, caller: str) -> int:
    count = 0
    for n in range(asked):
        try:
            await limits[n % len(limits)].take("read", caller)
        except TooManyRequests:
            continue
        count += 1
    return count


async def test_two_processes_share_one_window_and_most_requests_ask_nobody(valkey: Valkey) -> None:
    both = [made(valkey.url, 400)[0] for _ in range(2)]
    async with Redis.from_url(valkey.url) as client:
        before = int((await client.info("stats"))["total_commands_processed"])
        assert await granted(both, 1000, "ada") == 400
        asked = int((await client.info("stats"))["total_commands_processed"]) - before
    assert asked < 200
    assert await granted(both, 10, "grace") == 10
    for each in both:
        await each.aclose()


async def test_without_valkey_each_process_counts_alone_and_says_so() -> None:
    limits, metrics = made(NOWHERE)
    assert await granted([limits], QUOTA + 5, "ada") == QUOTA
    assert b"custody_api_limits_counted_alone 1.0" in metrics.exposition()
    assert b'custody_api_rate_limited_total{kind="read"} 5.0' in metrics.exposition()


async def test_a_valkey_that_dies_turns_nobody_away(valkey: Valkey) -> None:
    limits, metrics = made(valkey.url)
    assert await granted([limits], 3, "eve") == 3
    assert b"custody_api_limits_counted_alone 0.0" in metrics.exposition()
    valkey.kill()
    try:
        assert await granted([limits], 10, "eve") == 10
        assert b"custody_api_limits_counted_alone 1.0" in metrics.exposition()
    finally:
        valkey.start()
        await limits.aclose()


async def test_a_caller_sees_what_is_left_and_when_to_come_back(shared_api: Harness) -> None:
    state = shared_api.asgi.state
    usual, state.limits = state.limits, made(NOWHERE, 2)[0]
    try:
        answers = [await shared_api.get("/v1/assets") for _ in range(3)]
    finally:
        state.limits = usual
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"read";q=2;w=60'
    assert answers[0].headers["ratelimit"].startswith('"read";r=1;t=')
    assert answers[2].json()["code"] == "too_many_requests"
    assert 1 <= int(answers[2].headers["retry-after"]) <= 60


async def test_an_address_that_guesses_keys_is_slowed_down(shared_api: Harness) -> None:
    state = shared_api.asgi.state
    usual, state.limits = state.limits, made(NOWHERE)[0]
    try:
        for _ in range(REFUSALS_PER_MINUTE):
            await state.limits.refuse_stranger("127.0.0.1")
        late = await shared_api.http.get("/v1/assets", headers={"Authorization": "Bearer ck_" + "A" * 43})
        good = await shared_api.get("/v1/assets", scope="all")
    except TooManyRequests:
        pytest.fail("turned away too early")
    finally:
        state.limits = usual
    assert (late.status_code, late.json()["code"]) == (429, "too_many_requests")
    assert good.status_code != 429


async def test_an_application_that_ends_lets_go_of_valkey(valkey: Valkey) -> None:
    usual = make_settings("postgresql://nobody@127.0.0.1:1/nothing")
    app = bootstrap.build(usual.model_copy(update={"redis": RedisSettings(url=SecretStr(valkey.url))}))
    api = create_app(app)
    async with Redis.from_url(valkey.url) as client:
        others = len(await client.client_list())
        async with served(api, lifespan="on"):
            await api.state.limits.take("read", "ada")
            assert len(await client.client_list()) == others + 1
        for _ in range(100):
            if len(await client.client_list()) == others:
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("the connection is still there")
    await app.aclose()
