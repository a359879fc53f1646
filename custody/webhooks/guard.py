"""Where we send at all: tenants choose the URLs, and none may lead into our own network.

The URL is checked when it is given; the addresses behind its name are checked each time it is used, all of them, and the
connection goes to one of the very addresses that were checked. Pure: looking names up is the sender's business.
Source: IANA special-purpose address registries (RFC 6890); OWASP, Server-Side Request Forgery Prevention.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from custody.webhooks.errors import RefusedAddress, RefusedUrl

URL_MAX = 1024

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REFUSED = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        # Teredo, ORCHID and benchmarks; documentation; 6to4, which carries an IPv4 address inside.
        "2001::/23", "2001:db8::/32", "3fff::/20", "2002::/16",
    )
)  # fmt: skip
_GLOBAL_IPV6 = IPv6Network("2000::/3")
"""All of IPv6 that is routed. Outside it: loopback, link-local, unique local, multicast, IPv4-mapped, NAT64."""
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an installation allows beyond public https."""

    http: bool = False
    """Plain http too: for development."""
    networks: tuple[Network, ...] = ()
    """Special networks that the operator opened, such as its own receivers'."""


def check_url(url: str, rules: Rules) -> SplitResult:
    """The parts of a URL that may be sent to. Raises RefusedUrl, with what is wrong and nothing of the URL."""
    if len(url) > URL_MAX or not url.isascii() or any(letter <= " " or letter in "\\\x7f" for letter in url):
        raise RefusedUrl(reason="malformed")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise RefusedUrl(reason="malformed") from error
    if parts.scheme != "https" and not (rules.http and parts.scheme == "http"):
        raise RefusedUrl(reason="scheme")
    if "@" in parts.netloc:
        raise RefusedUrl(reason="credentials")
    if "#" in url:
        raise RefusedUrl(reason="fragment")
    if port == 0 or len(host) > 253:
        raise RefusedUrl(reason="malformed")
    try:
        literal = ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host):
            raise RefusedUrl(reason="host") from None
    else:
        if not is_allowed(literal, rules):
            raise RefusedUrl(reason="host")
    return parts


def check_addresses(found: Sequence[str], rules: Rules) -> tuple[Address, ...]:
    """The addresses that a name led to, each one allowed. One that is not spoils them all: a name that leads both outside and
    inside is an attack or a mistake. Raises RefusedAddress."""
    addresses = tuple(dict.fromkeys(ip_address(text) for text in found))
    if not addresses or not all(is_allowed(address, rules) for address in addresses):
        raise RefusedAddress
    return addresses


def is_allowed(address: Address, rules: Rules) -> bool:
    """Whether we connect to it."""
    if any(address.version == network.version and address in network for network in rules.networks):
        return True
    if isinstance(address, IPv6Address) and address not in _GLOBAL_IPV6:
        return False
    return not any(address.version == network.version and address in network for network in _REFUSED)
