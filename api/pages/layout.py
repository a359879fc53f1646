"""What the documentation's pages have in common: one style, no script unless a page brings it, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from html import escape as escape_text
from pathlib import Path

from starlette.responses import Response

_STYLE = (Path(__file__).parent / "docs.css").read_text("utf-8")


def escape(text: str) -> str:
    """Text as HTML shows it."""
    return escape_text(text, quote=True)


def page(title: str, body: str, *, aside: str = "", script: str = "") -> Response:
    """A whole page. Its policy lets the browser run exactly the style and the script that stand in it."""
    tail = f"<script>{script}</script>" if script else ""
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)} · Custody API</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{aside}<main>{body}</main>{tail}</body></html>"
    )
    policy = [
        "default-src 'none'",
        f"style-src {_hash(_STYLE)}",
        f"script-src {_hash(script) if script else chr(39) + 'none' + chr(39)}",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    headers = {
        "Content-Security-Policy": "; ".join(policy),
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }
    return Response(html, media_type="text/html", headers=headers)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
