"""Telling the customer: signed callbacks, repeated until they are answered with 2xx.

Source: the Standard Webhooks specification 1.0 (headers webhook-id, webhook-timestamp, webhook-signature).
"""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta

import httpx
from standardwebhooks.webhooks import Webhook

from devnet.bank.bank import Bank
from devnet.bank.model import Callback

_FIRST_RETRY = timedelta(milliseconds=200)
_LAST_RETRY = timedelta(seconds=5)


def sign(secret: str, callback: Callback, now: datetime) -> tuple[dict[str, str], bytes]:
    """The headers and the exact bytes of one delivery."""
    body = json.dumps(callback.body, separators=(",", ":"))
    # The library reads a naive or aware time as UTC and rounds down to the second; the header must say the same second.
    signature = Webhook(secret).sign(msg_id=callback.id, timestamp=now, data=body)
    headers = {
        "content-type": "application/json",
        "webhook-id": callback.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    return headers, body.encode()


class Notifier:
    """Lets time pass for the bank and delivers what is due."""

    def __init__(self, bank: Bank, url: str, secret: str) -> None:
        """`url` receives the callbacks; `secret` is `whsec_` and base64."""
        self._bank = bank
        self._url = url
        self._secret = secret
        self._retry_at: dict[str, tuple[datetime, timedelta]] = {}

    async def run(self, stop: asyncio.Event, tick: timedelta) -> None:
        """Until `stop`: advance the bank, deliver what is due."""
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            while not stop.is_set():
                now = datetime.now(UTC)
                self._bank.advance(now)
                for callback in self._bank.callbacks_due(now):
                    await self._deliver(client, callback, now)
                try:
                    await asyncio.wait_for(stop.wait(), tick.total_seconds())
                except TimeoutError:
                    continue

    async def _deliver(self, client: httpx.AsyncClient, callback: Callback, now: datetime) -> None:
        next_at, pause = self._retry_at.get(callback.id, (now, _FIRST_RETRY))
        if now < next_at:
            return
        headers, body = sign(self._secret, callback, now)
        try:
            answer = await client.post(self._url, content=body, headers=headers)
            told = answer.is_success
        except httpx.HTTPError:
            told = False
        if told:
            self._retry_at.pop(callback.id, None)
            self._bank.confirm_callback(callback.id)
        else:
            jitter = 0.8 + 0.4 * random.random()
            self._retry_at[callback.id] = (now + pause * jitter, min(pause * 2, _LAST_RETRY))
