"""As much of Markdown as our own pages use: headings, paragraphs, lists, fenced code, inline code, links. Everything is
escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from api.pages.layout import escape

_FENCE = "```"
_INLINE = re.compile(r"`([^`]+)`|\[([^\]]+)\]\(([^)\s]+)\)|\*\*([^*]+)\*\*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a text."""

    kind: str
    """`h1` to `h3`, `p`, `ul`, or `code`."""
    text: str
    """Its source; of a list, a line for each entry."""
    language: str = ""
    """Of code."""


def blocks(source: str) -> Iterator[Block]:
    """The parts of a text, in order."""
    lines = iter(source.splitlines())
    gathered: list[str] = []
    for line in lines:
        if line.startswith(_FENCE):
            yield from _paragraph(gathered)
            code = []
            for inner in lines:
                if inner == _FENCE:
                    break
                code.append(inner)
            yield Block(kind="code", text="\n".join(code), language=line.removeprefix(_FENCE))
        elif (level := len(line) - len(line.lstrip("#"))) and line[level : level + 1] == " ":
            yield from _paragraph(gathered)
            yield Block(kind=f"h{level}", text=line[level + 1 :])
        elif line.strip():
            gathered.append(line)
        else:
            yield from _paragraph(gathered)
    yield from _paragraph(gathered)


def _paragraph(gathered: list[str]) -> Iterator[Block]:
    if gathered and gathered[0].startswith("- "):
        yield Block(kind="ul", text="\n".join(gathered))
    elif gathered:
        yield Block(kind="p", text=" ".join(gathered))
    gathered.clear()


def render(source: str) -> str:
    """The text as HTML."""
    return "".join(_html(block) for block in blocks(source))


def _html(block: Block) -> str:
    match block.kind:
        case "code":
            return f"<pre><code>{escape(block.text)}</code></pre>"
        case "ul":
            entries = re.split(r"^- ", block.text, flags=re.MULTILINE)[1:]
            return (
                "<ul>" + "".join(f"<li>{inline(' '.join(each.split()))}</li>" for each in entries) + "</ul>"
            )
        case kind:
            return f"<{kind}>{inline(block.text)}</{kind}>"


def inline(text: str) -> str:
    """One line of text: code, links and strong words inside."""
    parts, end = [], 0
    for found in _INLINE.finditer(text):
        parts.append(escape(text[end : found.start()]))
        code, label, address, strong = found.groups()
        if code is not None:
            parts.append(f"<code>{escape(code)}</code>")
        elif label is not None:
            parts.append(f'<a href="{escape(address)}">{escape(label)}</a>')
        else:
            parts.append(f"<b>{escape(strong)}</b>")
        end = found.end()
    return "".join([*parts, escape(text[end:])])
