"""The manifest of an export, and how a file comes to count: whole, synced, named, listed, in that order and through any crash.

A file is written under a name that begins with a dot. When it is complete and on disk, the manifest that lists it is written
beside the old one; then the file takes its name and the new manifest its place. A crash before the file has its name leaves
nothing that counts; a crash after it is made good by the next run. So a file with its name never changes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from custody.kernel.ids import TenantId
from custody.warehouse.errors import WarehouseBusy, WarehouseUnreadable
from custody.warehouse.model import ExportedFile, FileFormat, Manifest, Position, TenantExport

FORMAT: Final = "custody-warehouse-v1"
MANIFEST: Final = "manifest.json"
NEXT: Final = ".manifest.next"
"""The manifest to come."""
PART: Final = ".part"
"""The file that is being written."""
LOCK: Final = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Nobody else writes into the directory meanwhile. Raises WarehouseBusy. Finishes what a crash left between two names."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WarehouseBusy(directory=str(folder)) from error
        if (folder / NEXT).exists():
            _go_on(folder)
        yield


def load_manifest(folder: Path) -> Manifest | None:
    """The manifest, None for a directory that has none. Raises WarehouseUnreadable."""
    path = folder / MANIFEST
    return _read(path) if path.exists() else None


def commit(folder: Path, manifest: Manifest, file: ExportedFile) -> None:
    """Let the part that was written become `file`, the newest of `manifest`. It must be on disk."""
    path = folder / file.name
    path.parent.mkdir(exist_ok=True)
    _write(folder / NEXT, manifest)
    (folder / PART).rename(path)
    _sync(path.parent)
    (folder / NEXT).rename(folder / MANIFEST)
    _sync(folder)


def _go_on(folder: Path) -> None:
    """The process before ended between writing a manifest and putting it in place: it counts if its files are all there."""
    try:
        manifest = _read(folder / NEXT)
    except WarehouseUnreadable:
        manifest = None
    files = () if manifest is None else [file for one in manifest.tenants.values() for file in one.files]
    if manifest is not None and all((folder / file.name).exists() for file in files):
        (folder / NEXT).rename(folder / MANIFEST)
    else:
        (folder / NEXT).unlink()
    _sync(folder)


def _write(path: Path, manifest: Manifest) -> None:
    shown = {
        "format": FORMAT,
        "file_format": manifest.format.value,
        "source": manifest.source,
        "tenants": {str(tenant): asdict(one) for tenant, one in sorted(manifest.tenants.items())},
    }
    with path.open("w", encoding="ascii") as file:
        file.write(json.dumps(shown, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> Manifest:
    try:
        shown = json.loads(path.read_text(encoding="ascii"))
        if shown["format"] != FORMAT:
            raise WarehouseUnreadable("the manifest has another format", found=str(shown["format"])[:80])
        return Manifest(
            format=FileFormat(shown["file_format"]),
            source=str(shown["source"]),
            tenants={TenantId(int(number)): _tenant(one) for number, one in shown["tenants"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WarehouseUnreadable("the manifest cannot be read", file=path.name) from error


def _tenant(shown: Mapping[str, Any]) -> TenantExport:
    return TenantExport(
        position=Position(**shown["position"]),
        files=tuple(ExportedFile(**file) for file in shown["files"]),
    )


def _sync(folder: Path) -> None:
    """Names of a directory are on disk only when the directory is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
