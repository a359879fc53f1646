"""A journal as an auditor holds it: the signer's own file, or an export of it, which carries the same bytes.

An export is JSONL, one object per entry: `n`; `mac` (hex); `facts`, each the very text of the journal (unix second, space,
JSON); and `head` (hex), the hash that chains this entry to all before it. `n TAB mac TAB facts joined by TAB, LF` is the
journal's line again, so nothing is lost and the chain is derived anew from it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from signer.journal import FILE_NAME, GENESIS, Entry, read_line
from signer.refusal import EvidenceFault

_NAMES = {"n", "mac", "facts", "head"}


def read_entries(path: Path) -> Iterator[Entry]:
    """Return the entries of an export, of a journal file, or of the journal in a directory; nothing is locked or changed.

    A last line without its end is one that the signer is writing just now, and not read. Raises EvidenceFault that names the
    first entry which cannot be read or does not chain, OSError when there is no such file.
    """
    with (path / FILE_NAME if path.is_dir() else path).open("rb") as file:
        head = GENESIS
        for n, text in enumerate(file, start=1):
            if not text.endswith(b"\n"):
                return
            line, said = _from_export(text, n) if text.startswith(b"{") else (text, None)
            entry = read_line(line, n, head)
            if said is not None and said != entry.head.hex():
                raise EvidenceFault(f"journal entry {n} does not chain: its head is not the one derived")
            head = entry.head
            yield entry


def write_export(path: Path, out: IO[bytes]) -> Entry | None:
    """Copy a journal into this stream, entry by entry; return the last one, None when there is none. Raises as `read_entries`."""
    last = None
    for entry in read_entries(path):
        facts = [f"{at} {body.decode('utf-8')}" for at, body in entry.facts]
        shown = {"n": entry.n, "mac": entry.mac.decode(), "facts": facts, "head": entry.head.hex()}
        out.write(json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        last = entry
    return last


def _from_export(text: bytes, n: int) -> tuple[bytes, str]:
    """Return the journal's line, and the head that the export says it has."""
    fault = EvidenceFault(f"journal entry {n} cannot be read")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise fault from error
    if not isinstance(value, dict) or value.keys() != _NAMES or not isinstance(value["facts"], list):
        raise fault
    parts = [str(value["n"]), value["mac"], *value["facts"]]
    if not all(isinstance(part, str) for part in parts) or not isinstance(value["head"], str):
        raise fault
    return "\t".join(parts).encode() + b"\n", value["head"]
