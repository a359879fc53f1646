"""What every screener must do: the fake that tests use, and the adapter over HTTP against a server that keeps the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.ids import new_uuid
from custody.screening.model import Finding, Question
from custody.screening.ports import Screener
from custody.screening.provider import HttpScreener
from tests.fakes.screener import TROUBLES, FakeScreener, ScreeningDesk, serving

XLM = parse_asset_id("stellar:devnet/native")


@pytest.fixture
def desk() -> ScreeningDesk:
    return ScreeningDesk()


@pytest.fixture(params=["fake", "http"])
async def screener(request: pytest.FixtureRequest, desk: ScreeningDesk) -> AsyncIterator[Screener]:
    if request.param == "fake":
        yield FakeScreener(desk)
        return
    async with serving(desk, "secret") as url:
        made = HttpScreener("desk", url=url, token="secret", timeout_s=0.3)
        yield made
        await made.aclose()


def question(account: str = "GNOBODY") -> Question:
    return Question(
        reference=new_uuid(), chain=ChainId("stellar:devnet"), account=account, asset=XLM, amount=10**30
    )


async def test_says_clear_and_hit_and_the_same_again_of_one_screening(
    screener: Screener, desk: ScreeningDesk
):
    desk.hits.add("GBAD")
    for asked, finding in ((question(), Finding.CLEAR), (question("GBAD"), Finding.HIT)):
        answers = [await screener.screen(asked) for _ in range(3)]
        assert {(each.finding, each.detail) for each in answers} == {(finding, "case 7")}
    assert len(desk.screenings) == 2
    assert desk.asked == 6


async def test_pending_is_unknown_until_the_same_reference_is_answered(
    screener: Screener, desk: ScreeningDesk
):
    desk.pending, asked = True, question()
    assert (await screener.screen(asked)).finding is Finding.UNKNOWN
    desk.pending = False
    assert (await screener.screen(asked)).finding is Finding.CLEAR
    assert list(desk.screenings) == [str(asked.reference)]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_whatever_is_not_its_own_clear_word_is_unknown(
    screener: Screener, desk: ScreeningDesk, trouble: str
):
    desk.trouble, asked = trouble, question()
    answer = await screener.screen(asked)
    assert answer.finding is Finding.UNKNOWN
    assert answer.detail
    desk.trouble = ""
    assert (await screener.screen(asked)).finding is Finding.CLEAR
    assert list(desk.screenings) == [str(asked.reference)]


async def test_a_wrong_token_and_a_dead_screener_say_nothing(desk: ScreeningDesk):
    async with serving(desk, "secret") as url:
        wrong = HttpScreener("desk", url=url, token="another", timeout_s=1)
        assert (await wrong.screen(question())).finding is Finding.UNKNOWN
    assert (await wrong.screen(replace(question(), amount=1))).finding is Finding.UNKNOWN
    await wrong.aclose()
    assert desk.screenings == {}
