"""One POST to a stranger's server: name looked up once, every address checked, the connection pinned to what was checked.

The name stays in `Host` and in TLS, so that the certificate is compared with it. No redirect is followed, no proxy of the
environment is asked, no cookie and no connection is kept for the next sending (another tenant's name may share the address),
and of the answer nothing but status and headers is read.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import SplitResult

import httpx

from custody.webhook_settings import WebhookSettings
from custody.webhooks.errors import RefusedAddress, RefusedUrl
from custody.webhooks.guard import Address, Rules, check_addresses, check_url
from custody.webhooks.model import Answer
from custody.webhooks.ports import Resolver

_LOOKUPS_AT_ONCE = 8
_DEFAULT_PORT = {"https": 443, "http": 80}
_PATIENCE_SHOWN = frozenset({429, 503})
"""Statuses whose Retry-After is honoured. Source: RFC 9110 s.10.2.3, RFC 6585 s.4."""


class SystemResolver:
    """The operating system's, in threads of its own: a name server that keeps silent must not hold up those of the database."""

    def __init__(self) -> None:
        """Threads start when they are needed."""
        self._threads = ThreadPoolExecutor(_LOOKUPS_AT_ONCE, thread_name_prefix="webhook-names")

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """All addresses, in the system's order. Raises OSError."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def close(self) -> None:
        """Forget lookups under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Sender:
    """Sends signed bodies."""

    def __init__(self, settings: WebhookSettings, resolver: Resolver) -> None:
        """Trusts the public authorities, and the installation's own where it has one."""
        self.rules = rules_of(settings)
        self._timeout_s = settings.timeout_s
        self._resolver = resolver
        self._tls = httpx.create_ssl_context(trust_env=False)
        if settings.ca_file is not None:
            self._tls.load_verify_locations(settings.ca_file)

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """What came of it. Never raises for anything that the other side can cause."""
        started = time.monotonic()
        status, error, retry_after_s = await self._attempt(url, headers, body)
        elapsed_ms = round((time.monotonic() - started) * 1000)
        return Answer(status=status, error=error, elapsed_ms=elapsed_ms, retry_after_s=retry_after_s)

    async def _attempt(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int | None, str, int | None]:
        try:
            parts = check_url(url, self.rules)
            async with asyncio.timeout(self._timeout_s):
                addresses = await self._addresses(parts)
                response = await self._post(parts, addresses, headers, body)
        except (RefusedUrl, RefusedAddress) as error:
            return None, error.code, None
        except (TimeoutError, httpx.TimeoutException):
            return None, "timeout", None
        except httpx.ConnectError as error:
            return None, "tls_failed" if _is_tls(error) else "connection_failed", None
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError):
            return None, "broken_answer", None
        except (OSError, UnicodeError):
            return None, "name_not_found", None
        return response.status_code, _error_of(response.status_code), _retry_after(response)

    async def _addresses(self, parts: SplitResult) -> tuple[Address, ...]:
        found = await self._resolver.resolve(parts.hostname or "", _port(parts))
        return check_addresses(found, self.rules)

    async def _post(
        self, parts: SplitResult, addresses: Sequence[Address], headers: Mapping[str, str], body: bytes
    ) -> httpx.Response:
        """Try the checked addresses in turn until one takes the connection; the request is written to that one only."""
        for last, address in enumerate(addresses, 1 - len(addresses)):
            try:
                return await self._post_to(address, parts, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if last == 0:
                    raise
        raise httpx.ConnectError("no address")

    async def _post_to(
        self, address: Address, parts: SplitResult, headers: Mapping[str, str], body: bytes
    ) -> httpx.Response:
        request = httpx.Request(
            "POST",
            httpx.URL(parts.geturl()).copy_with(host=str(address)),
            headers={**headers, "host": parts.netloc, "connection": "close"},
            content=body,
            extensions={
                "sni_hostname": parts.hostname,
                "timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s),
            },
        )
        async with httpx.AsyncHTTPTransport(
            verify=self._tls, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        ) as transport:
            response = await transport.handle_async_request(request)
            await response.aclose()
        return response


def rules_of(settings: WebhookSettings) -> Rules:
    """What this installation allows beyond public https."""
    return Rules(http=settings.allow_http, networks=settings.allowed_networks)


def _port(parts: SplitResult) -> int:
    return parts.port or _DEFAULT_PORT[parts.scheme]


def _error_of(status: int) -> str:
    if 200 <= status < 300:
        return ""
    return "redirect_refused" if 300 <= status < 400 else "status_refused"


def _retry_after(response: httpx.Response) -> int | None:
    text = response.headers.get("retry-after", "")
    told = response.status_code in _PATIENCE_SHOWN and text.isascii() and text.isdigit() and len(text) < 9
    return int(text) if told else None


def _is_tls(error: BaseException | None) -> bool:
    """Whether a refused certificate or handshake is behind the error."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
