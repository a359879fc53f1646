"""Ledgers of a Stellar network from a SEP-54 lake (what Galexie writes): a local folder, S3 or GCS.

For history: as old as the lake, and as fast as it is read. The next objects are fetched while the last ones are scanned.
Source: SEP-54 0.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from obstore import get_async, list_with_delimiter_async
from obstore import list as list_objects
from obstore.exceptions import BaseError
from obstore.store import GCSStore, LocalStore, ObjectStore, S3Store

from custody.chains.errors import WrongNetwork
from custody.chains.ports import Head
from custody.kernel.assetid import ChainId
from custody.settings import LakeSettings
from ingestion.errors import (
    InconsistentNode,
    LakeBehind,
    LakeGap,
    LakeUnreachable,
    LakeUnusable,
    UnreadableLedger,
)
from ingestion.model import BlockFacts
from ingestion.stellar.lake_layout import (
    CONFIG_NAME,
    SUFFIXES,
    Batch,
    Layout,
    is_partition,
    parse_config,
    unpack_batch,
)
from ingestion.stellar.read import LedgerReader
from ingestion.stellar.scan.ledger import scan_ledger

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

LEDGERS_MAX = 10
"""Ledgers of one fetch."""
OBJECT_MAX_BYTES = 64 * 1024 * 1024
"""What an object may weigh, compressed. Today's ledgers have 200 KB."""
CONFIG_MAX_BYTES = 64 * 1024
"""What the lake's description may weigh."""
AHEAD_MAX_BYTES = 64 * 1024 * 1024
"""What the objects that were fetched ahead may weigh together, compressed."""
_TIMEOUTS: ClientConfig = {"timeout": "30s", "connect_timeout": "5s"}
_RETRIES: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
"""Of the store itself, for a hiccup; the loop backs off by itself."""
_PAGE = 1000
"""Objects of one listing's page, as S3 and GCS have them."""

_log = structlog.get_logger(__name__)
Admit = Callable[[int], bool]
"""Whether an object of so many bytes may be read now."""


class LakeLedgers:
    """Ledgers of one lake, scanned, as far as they concern us. A `ChainSource`, read in order by one reader."""

    def __init__(self, settings: LakeSettings, reader: LedgerReader) -> None:
        """`reader` knows the network, and which accounts are ours."""
        self._url = settings.url
        self._settings = settings
        self._store: ObjectStore | None = None
        self._reader = reader
        self._layout: Layout | None = None
        self._suffixes: tuple[str, ...] = SUFFIXES
        self._ahead = Ahead(self._download, settings.ahead_objects)
        self._open: tuple[Batch, list[bytes]] | None = None
        self._head: tuple[Batch, Head] | None = None

    @property
    def chain(self) -> ChainId:
        """The CAIP-2 id of the chain."""
        return self._reader.chain

    @property
    def reorganises(self) -> bool:
        """A closed ledger is final (SCP)."""
        return False

    @property
    def batch_max(self) -> int:
        """Ledgers of one fetch."""
        return LEDGERS_MAX

    async def verify_network(self) -> None:
        """Read the lake's configuration. Raises LakeUnusable, WrongNetwork."""
        text = await self._get(CONFIG_NAME, lambda size: size <= CONFIG_MAX_BYTES)
        if text is None:
            raise LakeUnusable(lake=self._url, object=CONFIG_NAME, reason="is missing, or no description")
        layout, passphrase = parse_config(text)
        if passphrase != self._reader.network_passphrase:
            raise WrongNetwork(chain=self.chain, lake=self._url, node=passphrase[:100])
        self._layout = layout

    async def head(self) -> Head:
        """The newest ledger of the lake."""
        newest = await self._newest()
        if newest is None:
            raise LakeBehind(lake=self._url, reason="holds no ledgers")
        if self._head is None or self._head[0] != newest:
            ledger = await asyncio.to_thread(scan_ledger, (await self._read_aside(newest))[-1])
            self._head = newest, Head(height=ledger.height, hash=ledger.hash.hex())
        return self._head[1]

    async def oldest(self) -> int:
        """Height of the oldest ledger of the lake. Lists a partition, or all objects of a lake that has none."""
        layout = await self._known_layout()
        folders = await self._partitions(layout)
        batches = [each for each in await self._list(layout, folders[-1] if folders else "") if each]
        if not batches:
            raise LakeBehind(lake=self._url, reason="holds no ledgers")
        return min(batches, key=lambda each: each.first).oldest

    async def fetch(self, first: int, last: int) -> list[BlockFacts]:
        """Ledgers from `first` on, as many as are read at once.

        Raises LakeBehind above what the lake has, LakeGap where it misses an object, UnreadableLedger for one that is not what
        its name says, and what `LedgerReader.read` raises.
        """
        last = min(last, first + LEDGERS_MAX - 1)
        metas: list[bytes] = []
        while first + len(metas) <= last:
            batch = (await self._known_layout()).batch_of(first + len(metas))
            try:
                ledgers = await self._read(batch)
            except LakeBehind:
                if not metas:
                    raise
                break
            begin = first + len(metas) - batch.oldest
            metas += ledgers[begin : last - batch.oldest + 1]
        try:
            return await self._reader.read(metas, first)
        except InconsistentNode as error:
            # An object does not change by being asked for again.
            raise UnreadableLedger(
                lake=self._url, first=first, reason="holds other ledgers than it says"
            ) from error

    async def hashes(self, heights: Sequence[int]) -> dict[int, str]:
        """The hashes of closed ledgers that the lake has, by their own headers."""
        layout = await self._known_layout()
        found: dict[int, str] = {}
        for height in heights:
            batch = layout.batch_of(height)
            if height < batch.oldest:
                continue
            with suppress(LakeBehind):
                meta = (await self._read_aside(batch))[height - batch.oldest]
                found[height] = (await asyncio.to_thread(scan_ledger, meta)).hash.hex()
        return found

    async def aclose(self) -> None:
        """Stop what is fetched ahead."""
        await self._ahead.aclose()

    async def _known_layout(self) -> Layout:
        if self._layout is None:
            await self.verify_network()
        if self._layout is None:
            raise LakeUnusable(lake=self._url, reason="has no layout")
        return self._layout

    async def _read(self, batch: Batch) -> list[bytes]:
        """The ledgers of an object. The last object is kept: it may hold more ledgers than one fetch takes."""
        if self._open is not None and self._open[0] == batch:
            return self._open[1]
        ledgers = await self._unpack(batch, await self._ahead.take(batch))
        self._open = batch, ledgers
        return ledgers

    async def _read_aside(self, batch: Batch) -> list[bytes]:
        """The same out of turn, without disturbing what is fetched ahead."""
        return await self._unpack(batch, await self._download(batch, _demand_size))

    async def _unpack(self, batch: Batch, packed: bytes | None) -> list[bytes]:
        name = (await self._known_layout()).name_of(batch)
        if packed is None:
            raise await self._missing(batch, name)
        return await asyncio.to_thread(unpack_batch, packed, batch, f"{self._url}/{name}")

    async def _missing(self, batch: Batch, name: str) -> LakeBehind | LakeGap:
        """Why an object is not there: it is still to come, or it should be there."""
        newest = await self._newest()
        if newest is None or newest.first < batch.first:
            return LakeBehind(lake=self._url, object=name, newest=None if newest is None else newest.last)
        return LakeGap(lake=self._url, object=name, newest=newest.last)

    async def _download(self, batch: Batch, admit: Admit) -> bytes | None:
        """An object as it lies there; None when there is none, or it is not admitted."""
        name = (await self._known_layout()).name_of(batch)
        for suffix in self._suffixes:
            found = await self._get(name + suffix, admit)
            if found is not None:
                # The other spelling is tried first no more: a lake has one.
                self._suffixes = (suffix, *(each for each in SUFFIXES if each != suffix))
                return found
        return None

    async def _get(self, path: str, admit: Admit) -> bytes | None:
        try:
            found = await get_async(self._opened(), path)
            return bytes(await found.bytes_async()) if admit(found.meta["size"]) else None
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._unreachable(error, path) from error

    async def _newest(self) -> Batch | None:
        layout = await self._known_layout()
        for folder in await self._partitions(layout) or [""]:
            batches = await self._list(layout, folder, newest=True)
            if batches:
                return max(batches, key=lambda each: each.first)
        return None

    async def _partitions(self, layout: Layout) -> list[str]:
        """The partitions' folders, newest first. None where objects lie side by side."""
        if layout.batches_per_partition == 1:
            return []
        try:
            found = await list_with_delimiter_async(self._opened(), "")
        except (BaseError, OSError) as error:
            raise self._unreachable(error, "") from error
        return sorted(each for each in found["common_prefixes"] if is_partition(each))

    async def _list(self, layout: Layout, folder: str, *, newest: bool = False) -> list[Batch]:
        """The objects of a folder. Stores list by name, so the first page has the newest; a local folder lists as it likes."""
        batches: list[Batch] = []
        try:
            async for page in list_objects(self._opened(), folder or None, chunk_size=_PAGE):
                batches += [found for each in page if (found := layout.parse_name(each["path"])) is not None]
                if newest and batches and not isinstance(self._store, LocalStore):
                    break
        except (BaseError, OSError) as error:
            raise self._unreachable(error, folder) from error
        return batches

    def _opened(self) -> ObjectStore:
        """The store, opened when it is first needed: a folder that is not mounted yet is waited for."""
        if self._store is None:
            self._store = open_store(self._settings)
        return self._store

    def _unreachable(self, error: Exception, path: str) -> LakeUnreachable:
        # The first line is the store's sentence; what follows may quote requests.
        reason = str(error).partition("\n")[0][:200]
        return LakeUnreachable(lake=self._url, object=path, reason=f"{type(error).__name__}: {reason}")


class Ahead:
    """Objects fetched before they are asked for: so many, within so many bytes. Order of asking is the order of ledgers."""

    def __init__(self, download: Callable[[Batch, Admit], Awaitable[bytes | None]], objects: int) -> None:
        """`download` gives an object, or None where there is none or it was not admitted."""
        self._download = download
        self._objects = objects
        self._tasks: dict[int, asyncio.Task[bytes | None]] = {}
        self._held: dict[int, int] = {}

    async def take(self, batch: Batch) -> bytes | None:
        """An object, while the following ones are on their way. None when there is none."""
        task = self._tasks.pop(batch.first, None)
        self._schedule(batch)
        packed = None if task is None else await _outcome(task)
        self._held.pop(batch.first, None)
        # What could not be fetched ahead is asked for once more, now that it matters: then it counts how it fails.
        return packed if packed is not None else await self._download(batch, _demand_size)

    async def aclose(self) -> None:
        """Stop fetching."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _schedule(self, batch: Batch) -> None:
        size = batch.last - batch.first + 1
        wanted = [
            Batch(first=batch.first + size * number, last=batch.last + size * number)
            for number in range(1, self._objects + 1)
        ]
        near = {each.first for each in wanted}
        for first in [each for each in self._tasks if each not in near]:
            self._tasks.pop(first).cancel()
            self._held.pop(first, None)
        for each in wanted:
            if each.first not in self._tasks:
                self._tasks[each.first] = asyncio.create_task(self._fetch(each))

    async def _fetch(self, batch: Batch) -> bytes | None:
        """None as well when there is no room, or it fails: whoever needs the object asks again."""

        def admit(size: int) -> bool:
            fits = sum(self._held.values()) + size <= AHEAD_MAX_BYTES
            if fits and batch.first in self._tasks:
                self._held[batch.first] = size
            return fits

        try:
            return await self._download(batch, admit)
        except LakeUnreachable as error:
            _log.debug("ingestion.lake_ahead", object=batch.first, error=str(error)[:200])
            return None


def _demand_size(size: int) -> bool:
    if size > OBJECT_MAX_BYTES:
        raise UnreadableLedger(size=size, reason="an object weighs more than any may")
    return True


async def _outcome(task: asyncio.Task[bytes | None]) -> bytes | None:
    """The task's own, cancelled with whoever waits for it."""
    try:
        return await task
    finally:
        task.cancel()


def open_store(settings: LakeSettings) -> ObjectStore:
    """The store behind a lake's URL. Credentials come from the environment, as the cloud's own tools have them."""
    scheme, _, rest = settings.url.partition("://")
    try:
        match scheme:
            case "file":
                return LocalStore(prefix=rest)
            case "s3":
                return S3Store.from_url(
                    settings.url,
                    config=_s3_config(settings),
                    client_options={**_TIMEOUTS, "allow_http": settings.endpoint.startswith("http://")},
                    retry_config=_RETRIES,
                )
            case "gs":
                return GCSStore.from_url(
                    settings.url,
                    config={"skip_signature": settings.anonymous},
                    client_options=_TIMEOUTS,
                    retry_config=_RETRIES,
                )
            case _:
                raise LakeUnusable(lake=settings.url, reason="no such kind of lake")
    except BaseError as error:
        raise LakeUnreachable(lake=settings.url, reason=str(error).partition("\n")[0][:200]) from error


def _s3_config(settings: LakeSettings) -> S3Config:
    config: S3Config = {"skip_signature": settings.anonymous}
    if settings.region:
        config["region"] = settings.region
    if settings.endpoint:
        config["endpoint"] = settings.endpoint
    return config
