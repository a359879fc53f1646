"""NATS JetStream as a broker. The one file that knows nats.

A message is stored once for each `Nats-Msg-Id` within the stream's duplicate window. Source: docs.nats.io, JetStream.
"""

from __future__ import annotations

import asyncio
import ssl

import nats
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

from custody.events.errors import BrokerAway
from custody.events.ports import Message
from custody.stream_settings import EventStreamSettings

KEY_HEADER = "Custody-Object"
"""The object that a message is about: consumers that work in parallel keep its messages in one place."""
SEQUENCE_HEADER = "Custody-Sequence"
"""The event's place in the tenant's feed."""
DUPLICATE_WINDOW_S = 600.0
"""Of a stream that we make ourselves."""

_log = structlog.get_logger(__name__)


class JetStream:
    """A Broker over one connection, made on first use and again after any failure."""

    def __init__(self, chosen: EventStreamSettings) -> None:
        """Nothing connects yet."""
        self._chosen = chosen
        self._client: Client | None = None
        self._stream: JetStreamContext | None = None
        self._connecting = asyncio.Lock()

    async def publish(self, message: Message) -> None:
        """See Broker.publish."""
        headers = {
            "Nats-Msg-Id": message.id,
            KEY_HEADER: str(message.key),
            SEQUENCE_HEADER: str(message.position),
        }
        try:
            stream = await self._connected()
            await stream.publish(
                message.subject,
                message.body,
                timeout=self._chosen.timeout_s,
                stream=self._chosen.stream,
                headers=headers,
            )
        except (NatsError, OSError) as error:  # a timeout is an OSError, or theirs
            raise BrokerAway(stream=self._chosen.stream, reason=type(error).__name__) from error

    async def close(self) -> None:
        """See Broker.close."""
        client, self._client, self._stream = self._client, None, None
        if client is not None and not client.is_closed:
            await client.close()

    async def _connected(self) -> JetStreamContext:
        async with self._connecting:
            if self._stream is not None and self._client is not None and self._client.is_connected:
                return self._stream
            await self.close()
            chosen = self._chosen
            options: dict[str, object] = {}
            if chosen.credentials_file is not None:
                options["user_credentials"] = str(chosen.credentials_file)
            if chosen.token is not None:
                options["token"] = chosen.token.get_secret_value()
            if chosen.ca_file is not None or any(url.startswith("tls://") for url in chosen.servers):
                options["tls"] = ssl.create_default_context(cafile=chosen.ca_file)
            async with asyncio.timeout(chosen.timeout_s):
                self._client = await nats.connect(
                    list(chosen.servers),
                    name="custody event stream",
                    connect_timeout=chosen.timeout_s,
                    # Whoever carries begins again by itself; until then what is unknown stays unknown.
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    error_cb=_note,
                    **options,
                )
            found = self._client.jetstream(timeout=chosen.timeout_s)
            if chosen.create_stream:
                await _make_stream(found, chosen)
            self._stream = found
            return found


async def _make_stream(found: JetStreamContext, chosen: EventStreamSettings) -> None:
    try:
        await found.stream_info(chosen.stream)
    except NotFoundError:
        subjects = [f"{chosen.subject_prefix}.>"]
        await found.add_stream(
            StreamConfig(name=chosen.stream, subjects=subjects, duplicate_window=DUPLICATE_WINDOW_S)
        )
        _log.info("event_stream.made", stream=chosen.stream, subjects=subjects)


async def _note(error: Exception) -> None:
    _log.warning("event_stream.line", reason=type(error).__name__)
