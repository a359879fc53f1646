"""Providers of one chain: how each fares, and what it is called."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from custody.chains.ports import Head
from ingestion.ports import ChainSource

S = TypeVar("S", bound=ChainSource)


@dataclass(slots=True, kw_only=True)
class Provider(Generic[S]):
    """One provider, and how it fared."""

    name: str
    """As operators know it: a host, without what may be a key."""
    source: S
    verified: bool = False
    """Whether it has said that it serves our network."""
    failures: int = 0
    """In a row."""
    doubted: bool = False
    """What it gave last was of no use: that it answers is no excuse, its rests grow until it gives blocks again."""
    rests_until_s: float = 0.0
    """In the event loop's time."""
    head: Head | None = None
    """The newest block that it named last."""
    asking: asyncio.Task[Head] | None = None
    """The question for its newest block that is under way."""

    def rests(self, now: float) -> bool:
        """Whether it is left alone for now."""
        return now < self.rests_until_s

    def boasts(self, height: int) -> bool:
        """Whether it named a newest block that is not below this one, which it does not give."""
        return self.head is not None and self.head.height >= height


def name_providers(urls: tuple[str, ...]) -> list[str]:
    """Names for people and metrics: the host, since what follows it may be a key; numbered where a host serves several."""
    hosts = [urlsplit(url).netloc.rpartition("@")[2] for url in urls]
    seen: Counter[str] = Counter()
    names = []
    for host in hosts:
        seen[host] += 1
        names.append(host if seen[host] == 1 else f"{host} #{seen[host]}")
    return names
