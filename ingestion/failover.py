"""Several providers of one chain behind one source: who is away, slow, behind or unreadable is passed over; no two may disagree.

Where a chain does not reorganise, a hash that a second provider names for a block speaks for every block below it, as each names
its parent's: one comparison for each batch compares all of it. A disagreement stops the worker. That nobody could confirm does
not, unless agreement is required: then what is not confirmed is not handed out.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

import structlog

from custody.chains.errors import RpcRefused
from custody.chains.ports import Head
from custody.kernel.assetid import ChainId
from custody.kernel.errors import CustodyError, Unavailable
from ingestion.backoff import backoff
from ingestion.errors import (
    BrokenHashChain,
    HistoryLost,
    ProvidersDisagree,
    ProviderSlow,
    UnreadableLedger,
    Unusable,
)
from ingestion.metrics import Metrics
from ingestion.model import BlockFacts
from ingestion.ports import ChainSource
from ingestion.providers import Provider, S

GRACE_S = 1.0
"""How long the heads of all are waited for once; who is slower is heard next time."""
REMEMBERED = 4096
"""Heights whose hashes are kept, with who named them."""

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is asked of providers."""

    timeout_s: float
    """Longest time for one answer."""
    lag_max: int
    """Blocks that a provider may be behind the best and still be read from."""
    agreement_required: bool
    """Whether a block is handed out only when a second provider has named its hash, or that of one above it."""
    fetch_timeout_s: float | None = None
    """Longest time for one batch of blocks, where that takes many answers."""


class Failover(Generic[S]):
    """A `ChainSource` of several. The order is the order of preference."""

    def __init__(self, providers: Sequence[tuple[str, S]], terms: Terms, metrics: Metrics) -> None:
        """All of one chain. One provider is allowed: then it is followed, slow or not, and nobody confirms."""
        self._providers = [Provider(name=name, source=source) for name, source in providers]
        self._terms = terms
        self._metrics = metrics
        self._named: OrderedDict[int, tuple[str, set[str]]] = OrderedDict()
        self._fetched_to = 0
        self._agreed_to = 0
        self._reached_at: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)
        self._chosen = self._providers[0]

    @property
    def chain(self) -> ChainId:
        """The CAIP-2 id of the chain."""
        return self._providers[0].source.chain

    @property
    def reorganises(self) -> bool:
        """As its providers say."""
        return self._providers[0].source.reorganises

    @property
    def batch_max(self) -> int:
        """What every provider gives at once."""
        return min(each.source.batch_max for each in self._providers)

    async def verify_network(self) -> None:
        """Ask everybody. Raises WrongNetwork for any of them; a provider that is away is asked when it is back."""
        answers = await asyncio.gather(
            *(self._ask(each, self._verify(each)) for each in self._providers), return_exceptions=True
        )
        _raise_worst(answer for answer in answers if isinstance(answer, BaseException))
        if not any(each.verified for each in self._providers):
            raise next(answer for answer in answers if isinstance(answer, BaseException))

    async def head(self) -> Head:
        """The newest block of the provider that is read from next: the first in order that is near the best."""
        await self._hear_heads()
        awake = [each for each in self._awake() if each.head is not None]
        best = max((each.head.height for each in awake if each.head), default=0)
        self._note(best)
        for each in awake:
            if each.head is not None and best - each.head.height <= self._terms.lag_max:
                self._choose(each)
                return each.head
        raise ProviderSlow(chain=self.chain, reason="no provider has named its newest block")

    async def oldest(self) -> int:
        """The oldest block that any of them gives."""
        answers = await asyncio.gather(
            *(self._ask(each, each.source.oldest()) for each in self._awake()), return_exceptions=True
        )
        found = [each for each in answers if isinstance(each, int)]
        failed = [each for each in answers if isinstance(each, BaseException)]
        _raise_worst(failed)
        if not found:
            raise failed[0]
        return min(found)

    async def fetch(self, first: int, last: int) -> list[BlockFacts]:
        """The blocks by the first provider that gives them, as far as is agreed. Empty when nobody has them yet.

        Raises ProvidersDisagree. What every provider refused is raised as the mildest of them said: an absence that may end.
        """
        errors: list[CustodyError] = []
        is_absent = False
        for each in self._able(first):
            try:
                facts = await self._ask(
                    each, self._fetch_from(each, first, last), timeout_s=self._terms.fetch_timeout_s
                )
            except (UnreadableLedger, Unusable) as error:
                _log.error(
                    "ingestion.provider_unusable", chain=self.chain, provider=each.name, error=str(error)
                )
                self._metrics.provider_unusable(each.name, unusable=True)
                self._doubt(each)
                errors.append(error)
            except (Unavailable, HistoryLost) as error:
                if isinstance(error, RpcRefused) and each.boasts(first):
                    self._doubt(each)
                errors.append(error)
            else:
                if facts:
                    each.doubted, each.failures = False, 0
                    self._metrics.provider_unusable(each.name, unusable=False)
                    self._choose(each)
                    return await self.agree(each.name, facts)
                is_absent = True
                if each.boasts(first):
                    self._doubt(each)
        if is_absent:
            return []
        raise min(errors, key=lambda error: not isinstance(error, Unavailable))

    async def ask_first(self, call: Callable[[S], Awaitable[_T]]) -> _T:
        """The answer of the provider that is read from now, or of the first other that gives one. Raises the first absence."""
        errors: list[Unavailable] = []
        for each in sorted(self._awake(), key=lambda one: one is not self._chosen):
            try:
                return await self._ask(each, self._call(each, call))
            except Unavailable as error:
                errors.append(error)
        raise errors[0]

    async def ask_all(self, call: Callable[[S], Awaitable[_T]]) -> dict[str, _T]:
        """The answers of all who are awake and give one, by their names."""
        asked = self._awake()
        answers = await asyncio.gather(
            *(self._ask(each, self._call(each, call)) for each in asked), return_exceptions=True
        )
        _raise_worst(answer for answer in answers if isinstance(answer, BaseException))
        return {
            each.name: answer
            for each, answer in zip(asked, answers, strict=True)
            if not isinstance(answer, BaseException)
        }

    async def hashes(self, heights: Sequence[int]) -> dict[int, str]:
        """What the provider says that is read from now."""
        return await self._ask(self._chosen, self._chosen.source.hashes(heights))

    async def aclose(self) -> None:
        """Close the connections of all."""
        asking = [each.asking for each in self._providers if each.asking is not None]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await asyncio.gather(*(each.source.aclose() for each in self._providers))

    async def agree(self, name: str, facts: list[BlockFacts]) -> list[BlockFacts]:
        """What others confirm of these blocks, which `name` gave; all of them where agreement is not required.

        Raises ProvidersDisagree, BrokenHashChain when they do not follow from each other.
        """
        if self.reorganises or not facts:
            return facts
        for below, above in pairwise(facts):
            if above.ref.parent_hash != below.ref.hash:
                raise BrokenHashChain(chain=self.chain, provider=name, height=above.ref.height)
        others = [each for each in self._providers if each.name != name]
        if not others:
            return facts
        last = facts[-1].ref.height
        self._fetched_to = max(self._fetched_to, last)
        self._agreed_to = self._agreed_to or facts[0].ref.height - 1
        agreed = [each.ref.height for each in facts if self._hear(name, each.ref.height, each.ref.hash)]
        confirmed = max(agreed, default=0)
        if confirmed < last:
            confirmed = max(confirmed, await self._confirm(name, facts))
        self._metrics.agreed(self._agreed_to, self._fetched_to - self._agreed_to)
        if not self._terms.agreement_required:
            return facts
        return [each for each in facts if each.ref.height <= confirmed]

    async def _confirm(self, name: str, facts: list[BlockFacts]) -> int:
        """Ask the others for the newest of these blocks that each has. Returns the highest that one of them confirmed, or 0."""
        confirmed = 0
        for each in self._awake():
            if each.name == name:
                continue
            last = facts[-1].ref.height
            height = last if each.head is None else min(last, each.head.height)
            if height <= max(confirmed, facts[0].ref.height - 1):
                continue
            try:
                named = await self._ask(each, self._call(each, _hash_at(height)))
            except Unavailable as error:
                _log.info("ingestion.not_confirmed", chain=self.chain, provider=each.name, error=str(error))
                continue
            if height in named and self._hear(each.name, height, named[height]):
                confirmed = height
            if confirmed == facts[-1].ref.height:
                break
        return confirmed

    def _hear(self, name: str, height: int, block_hash: str) -> bool:
        """Note what a provider named. Whether another one has named the same. Raises ProvidersDisagree."""
        known, names = self._named.get(height, (block_hash, set[str]()))
        others = sorted(names - {name})
        if known != block_hash and others:
            raise ProvidersDisagree(
                chain=self.chain,
                height=height,
                provider=others[0],
                block=known,
                other_provider=name,
                other_block=block_hash,
            )
        # Whoever takes back its own word alone is caught by the chain of hashes.
        self._named[height] = block_hash, {*others, name}
        while len(self._named) > REMEMBERED:
            self._named.popitem(last=False)
        if others and height <= self._fetched_to:
            self._agreed_to = max(self._agreed_to, height)
        return bool(others)

    async def _hear_heads(self) -> None:
        """Ask everybody who is awake; go on with those who have answered after a moment, and at least one."""
        asked = self._awake()
        for each in asked:
            if each.asking is None:
                each.asking = asyncio.create_task(self._ask(each, self._head_of(each)))
        tasks = [each.asking for each in asked if each.asking is not None]
        done, _ = await asyncio.wait(tasks, timeout=GRACE_S)
        if not done:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        failed: list[BaseException] = []
        for each in asked:
            if each.asking is None or not each.asking.done():
                continue
            task, each.asking = each.asking, None
            error = None if task.cancelled() else task.exception()
            if error is not None:
                each.head = None
                failed.append(error)
                continue
            each.head = task.result()
            if not self.reorganises:
                self._hear(each.name, each.head.height, each.head.hash)
        _raise_worst(failed)
        if failed and all(each.head is None for each in asked):
            raise failed[0]

    async def _head_of(self, provider: Provider[S]) -> Head:
        await self._verify(provider)
        return await provider.source.head()

    async def _fetch_from(self, provider: Provider[S], first: int, last: int) -> list[BlockFacts]:
        await self._verify(provider)
        return await provider.source.fetch(first, last)

    async def _call(self, provider: Provider[S], call: Callable[[S], Awaitable[_T]]) -> _T:
        await self._verify(provider)
        return await call(provider.source)

    async def _verify(self, provider: Provider[S]) -> None:
        if not provider.verified:
            await provider.source.verify_network()
            provider.verified = True

    async def _ask(self, provider: Provider[S], call: Awaitable[_T], *, timeout_s: float | None = None) -> _T:
        """One call within its time; a failure sends the provider to rest."""
        try:
            async with asyncio.timeout(timeout_s or self._terms.timeout_s):
                answer = await call
        except TimeoutError:
            self._rest(provider)
            raise ProviderSlow(chain=self.chain, provider=provider.name) from None
        except (RpcRefused, Unusable):
            # It answers; what it was asked for is not there, or not yet, or of no use: who asked knows what that means.
            raise
        except Unavailable:
            self._rest(provider)
            raise
        if not provider.doubted:
            provider.failures = 0
        return answer

    def _doubt(self, provider: Provider[S]) -> None:
        provider.doubted = True
        self._rest(provider)

    def _rest(self, provider: Provider[S]) -> None:
        provider.failures += 1
        provider.rests_until_s = asyncio.get_running_loop().time() + backoff(provider.failures)
        self._metrics.provider_failed(provider.name)

    def _awake(self) -> list[Provider[S]]:
        """Those who are not left alone, in order; when all are, the one that is due first."""
        now = asyncio.get_running_loop().time()
        awake = [each for each in self._providers if not each.rests(now)]
        return awake or [min(self._providers, key=lambda each: each.rests_until_s)]

    def _able(self, height: int) -> list[Provider[S]]:
        """Whom to ask for a block: the chosen one, then who is awake and has it by its own account, at last who rests."""
        awake = self._awake()
        able = [each for each in awake if each.head is None or each.head.height >= height] or awake
        resting = [each for each in self._providers if each not in awake]
        return [*sorted(able, key=lambda each: each is not self._chosen), *resting]

    def _choose(self, provider: Provider[S]) -> None:
        if provider is not self._chosen:
            _log.warning(
                "ingestion.provider_changed",
                chain=self.chain,
                before=self._chosen.name,
                now=provider.name,
            )
        self._chosen = provider

    def _note(self, best: int) -> None:
        """Tell how far each provider is behind the best, in blocks and in seconds."""
        now = asyncio.get_running_loop().time()
        if not self._reached_at or best > self._reached_at[-1][0]:
            self._reached_at.append((best, now))
        for each in self._providers:
            height = None if each.head is None else each.head.height
            passed = next((at for top, at in self._reached_at if height is not None and top > height), now)
            self._metrics.provider_stands(
                each.name, not each.rests(now) and height is not None, height or 0, best, now - passed
            )


def _hash_at(height: int) -> Callable[[ChainSource], Awaitable[dict[int, str]]]:
    return lambda source: source.hashes([height])


def _raise_worst(errors: Iterable[BaseException]) -> None:
    """Raise what must stop the worker: anything but an absence."""
    for error in errors:
        if not isinstance(error, Unavailable):
            raise error
