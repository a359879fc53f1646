"""Static pages: two for approvers with passkeys, to decide and to create the passkey; one for administrators, to confirm an
action with theirs; and one of books against chain.

Each is one file without anything from elsewhere, and its policy lets the browser run exactly the script and the style in it. The
pages know nothing that the API does not show to the holder of an API key, so they need none to be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page and the headers that confine it."""

    body: str
    headers: dict[str, str]


def load_page(name: str) -> Page:
    """Read a page and allow what stands in it. Raises OSError when it is not installed."""
    body = (_HERE / name).read_text(encoding="utf-8")
    policy = [
        "default-src 'none'",
        f"script-src {_hashes('script', body)}",
        f"style-src {_hashes('style', body)}",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
    return Page(
        body=body,
        headers={
            "Content-Security-Policy": "; ".join(policy),
            "Permissions-Policy": "publickey-credentials-get=(self), publickey-credentials-create=(self)",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "DENY",
        },
    )


def _hashes(tag: str, body: str) -> str:
    found = re.findall(f"<{tag}>(.*?)</{tag}>", body, re.DOTALL)
    return " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode('ascii')}'"
        for each in found
    )


_APPROVE = load_page("approve.html")
_REGISTER = load_page("register.html")
_CONFIRM = load_page("confirm.html")
_RECON = load_page("recon.html")


@router.get("/approve/{approval_id}")
async def approve_page(approval_id: str) -> Response:  # noqa: ARG001 - the page reads it from its own address
    """Where an approver sees an intent and decides with a passkey."""
    return _respond(_APPROVE)


@router.get("/approvers/new")
async def register_page() -> Response:
    """Where an approver creates a passkey and gets its entry for the policy."""
    return _respond(_REGISTER)


@router.get("/confirm/{step_up_id}")
async def confirm_page(step_up_id: str) -> Response:  # noqa: ARG001 - the page reads it from its own address
    """Where an administrator sees an action and confirms it with a passkey."""
    return _respond(_CONFIRM)


@router.get("/recon")
async def recon_page() -> Response:
    """Where an operator sees books against chain over time, vault by vault."""
    return _respond(_RECON)


def _respond(page: Page) -> Response:
    return Response(page.body, media_type="text/html", headers=page.headers)
