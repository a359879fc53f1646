"""The picture of a withdrawal's life, docs/withdrawal.svg: laid out by hand, and drawn only where it shows the whole table."""

from __future__ import annotations

from pathlib import Path

from custody.withdrawals.transitions import WITHDRAWALS

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "withdrawal.svg"

_BOXES = {
    "cancelled": (40, 40, 150, "end"),
    "blocked": (240, 40, 150, "end"),
    "rejected": (560, 40, 170, "end"),
    "expired": (890, 40, 150, "end"),
    "requested": (40, 200, 150, "calm"),
    "screening": (240, 200, 150, "calm"),
    "awaiting_approval": (440, 200, 170, "calm"),
    "approved": (660, 200, 150, "calm"),
    "cooling_down": (880, 200, 170, "calm"),
    "signing": (660, 390, 150, "key"),
    "broadcasting": (440, 390, 170, "key"),
    "confirming": (240, 390, 150, "key"),
    "settled": (40, 390, 150, "paid"),
    "failed": (440, 510, 170, "end"),
}
"""Left, top, width and look of each state; all are 54 high."""
_ARROWS: dict[tuple[str, str], tuple[str, tuple[int, int] | None]] = {
    ("requested", "screen"): ("M190 227H240", (215, 220)),
    ("requested", "exempt"): ("M115 254V276H525V254", (320, 271)),
    ("screening", "clear"): ("M390 227H440", (415, 220)),
    ("screening", "block"): ("M290 200V94", (270, 190)),
    ("awaiting_approval", "approve"): ("M610 227H660", (635, 220)),
    ("approved", "cool"): ("M810 227H880", (845, 220)),
    ("approved", "block"): ("M690 200V172H360V94", (410, 167)),
    ("cooling_down", "block"): ("M910 200V172H360V94", None),
    ("awaiting_approval", "reject"): ("M590 200V94", (612, 190)),
    ("approved", "reject"): ("M715 200V94", (737, 190)),
    ("cooling_down", "reject"): ("M1030 200V117H705V94", (1054, 190)),
    ("approved", "reserve"): ("M735 254V390", (762, 350)),
    ("cooling_down", "reserve"): ("M965 254V417H810", (992, 350)),
    ("signing", "sign"): ("M660 417H610", (635, 410)),
    ("signing", "refuse"): ("M735 444V537H610", (672, 530)),
    ("broadcasting", "include"): ("M440 408H390", (415, 401)),
    ("confirming", "orphan"): ("M390 428H440", (415, 444)),
    ("broadcasting", "lapse"): ("M525 444V510", (546, 482)),
    ("confirming", "settle"): ("M240 417H190", (215, 410)),
    ("confirming", "fail"): ("M315 444V537H440", (378, 530)),
}
"""Path and place of the label of each move; where two moves share a line the label stands once."""
_FROM_EVERYWHERE = {"cancel": ("M115 140V94", (140, 110)), "expire": ("M965 140V94", (941, 110))}
"""Moves that start anywhere in the upper frame."""
_FRAMED = ("requested", "screening", "awaiting_approval", "approved", "cooling_down")

_HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1100 600" role="img" aria-labelledby="t d">
  <title id="t">The life of a withdrawal</title>
  <desc id="d">From requested through screening, approval and cool-down, where it can be cancelled at any moment, to signing,
  broadcasting, confirming and settled, from where nothing leads back. Every move is listed in states.md.</desc>
  <style>
    svg { --ink: #1f2933; --soft: #5b6875; --line: #8795a1; --paper: #ffffff;
          --calm: #e8f1fb; --paid: #e9f6ec; --key: #fdf0dc; --end: #f4f5f7; }
    @media (prefers-color-scheme: dark) {
      svg { --ink: #eef2f6; --soft: #aab7c4; --line: #74828f; --paper: #14181d;
            --calm: #16304a; --paid: #173524; --key: #43310f; --end: #22282f; }
    }
    text { font: 14px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--ink); }
    .soft { fill: var(--soft); font-size: 12.5px; }
    .mid { text-anchor: middle; }
    rect { stroke: var(--line); stroke-width: 1.2; rx: 8; }
    .paper { fill: var(--paper); stroke: none; }
    .frame { fill: none; stroke-dasharray: 6 4; }
    .calm { fill: var(--calm); }
    .paid { fill: var(--paid); stroke-width: 2; }
    .key { fill: var(--key); stroke-width: 2; }
    .end { fill: var(--end); stroke-dasharray: 4 3; }
    path { stroke: var(--ink); stroke-width: 1.3; fill: none; marker-end: url(#tip); }
    marker path { fill: var(--ink); stroke: none; marker-end: none; }
  </style>
  <defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
    <path d="M0 0 8 4 0 8z"/></marker></defs>
  <rect class="paper" x="0" y="0" width="1100" height="600"/>
  <rect class="frame" x="20" y="140" width="1060" height="166"/>
  <text class="soft" x="36" y="297">No key is touched: cancel and expire work from every state in this frame.</text>
  <text class="soft" x="832" y="470">Once a key may have been</text>
  <text class="soft" x="832" y="488">touched, nothing leads back.</text>
"""


def draw() -> str:
    """The picture. Raises ValueError when a state or a move of the table is not in it, or it shows one that is not there."""
    moves = {(row.source, row.event) for row in WITHDRAWALS.rows}
    drawn = {*_ARROWS, *((state, event) for state in _FRAMED for event in _FROM_EVERYWHERE)}
    if drawn != moves or set(_BOXES) != set(WITHDRAWALS.states):
        raise ValueError(
            f"scripts/draw_lifecycle.py and the table differ: {sorted(drawn ^ moves)}, "
            f"{sorted(set(_BOXES) ^ set(WITHDRAWALS.states))}"
        )
    lines = []
    for (_, event), (path, label) in _ARROWS.items():
        lines += _arrow(event, path, label)
    for event, (path, label) in _FROM_EVERYWHERE.items():
        lines += _arrow(event, path, label)
    for state, (left, top, width, look) in _BOXES.items():
        lines.append(f'  <rect class="{look}" x="{left}" y="{top}" width="{width}" height="54"/>')
        lines.append(f'  <text class="mid" x="{left + width // 2}" y="{top + 32}">{state}</text>')
    return _HEAD + "\n".join(lines) + "\n</svg>\n"


def _arrow(event: str, path: str, label: tuple[int, int] | None) -> list[str]:
    written = [f'  <path d="{path}"/>']
    if label is not None:
        written.append(f'  <text class="mid soft" x="{label[0]}" y="{label[1]}">{event}</text>')
    return written
