"""The files of an export, written and read piece by piece, so that memory does not grow with them.

Parquet comes from pyarrow, which is an extra of its own (ADR 0014): without it JSON lines work as ever, and Parquet says what to
install.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from decimal import Context, Decimal
from pathlib import Path
from typing import IO, Any, Final, Protocol

import orjson

from custody.warehouse.errors import ParquetMissing, WarehouseFlawed
from custody.warehouse.model import FileFormat
from custody.warehouse.rows import COLUMNS, EMPTY, Entry, dump_entry, load_entry

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    pa = None

DECIMAL_DIGITS: Final = 38
"""The most digits of a decimal that warehouses agree on. Source: DuckDB, Snowflake, BigQuery and Spark all end at 38; a wider
column is read as a binary fraction by the first, without a word."""
_WIDEST: Final = 10**DECIMAL_DIGITS
_EXACT: Final = Context(prec=DECIMAL_DIGITS)
ROWS_AT_ONCE: Final = 20_000
"""Rows of one group of a Parquet file, and of one step of reading."""
_READ_BYTES: Final = 1 << 20


class Writer(Protocol):
    """A file that is being written."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Append entries."""
        ...

    def finish(self) -> None:
        """Complete the file; it is on disk afterwards."""
        ...

    def drop(self) -> None:
        """Close what is not complete; the next run writes over it."""
        ...


def open_writer(path: Path, form: FileFormat) -> Writer:
    """A new file. Raises ParquetMissing."""
    return JsonLines(path) if form is FileFormat.JSONL else Parquet(path)


def read_entries(path: Path, form: FileFormat) -> Iterator[Entry]:
    """All entries of a file, in order. Raises WarehouseFlawed at what is none, and ParquetMissing."""
    rows = _json_rows(path) if form is FileFormat.JSONL else _parquet_rows(path)
    for number, row in enumerate(rows, 1):
        try:
            yield load_entry(row if form is FileFormat.JSONL else _without_decimals(row))
        except (ValueError, TypeError) as error:
            raise WarehouseFlawed(f"row {number} cannot be read: {error}", file=path.name) from error


def digest(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    seen = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            seen.update(block)
        return file.tell(), seen.hexdigest()


def demand_format(form: FileFormat) -> None:
    """Raises ParquetMissing when files of this format can be neither written nor read here."""
    if form is FileFormat.PARQUET and pa is None:
        raise ParquetMissing


class JsonLines:
    """One JSON object per line."""

    def __init__(self, path: Path) -> None:
        """Begin the file, over whatever lies there."""
        self._file: IO[bytes] = path.open("wb")

    def write(self, entries: Sequence[Entry]) -> None:
        """See Writer.write."""
        self._file.write(b"".join(orjson.dumps(dump_entry(entry)) + b"\n" for entry in entries))

    def finish(self) -> None:
        """See Writer.finish."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def drop(self) -> None:
        """See Writer.drop."""
        self._file.close()


class Parquet:
    """Row groups of bounded size; beside each amount's text a decimal, empty where it does not fit."""

    def __init__(self, path: Path) -> None:
        """Begin the file, over whatever lies there. Raises ParquetMissing."""
        demand_format(FileFormat.PARQUET)
        self._file: IO[bytes] = path.open("wb")
        self._writer = pq.ParquetWriter(self._file, parquet_schema(), compression="zstd")
        self._waiting: list[Entry] = []

    def write(self, entries: Sequence[Entry]) -> None:
        """See Writer.write."""
        self._waiting.extend(entries)
        while len(self._waiting) >= ROWS_AT_ONCE:
            self._write_group(self._waiting[:ROWS_AT_ONCE])
            del self._waiting[:ROWS_AT_ONCE]

    def finish(self) -> None:
        """See Writer.finish."""
        if self._waiting:
            self._write_group(self._waiting)
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def drop(self) -> None:
        """See Writer.drop."""
        if not self._file.closed:
            self._writer.close()
        self._file.close()

    def _write_group(self, entries: Sequence[Entry]) -> None:
        columns: dict[str, list[Any]] = {}
        for name, kind in COLUMNS.items():
            values = [entry[name] for entry in entries]
            columns[name] = [str(value) for value in values] if kind == "amount" else values
            if kind == "amount":
                columns[f"{name}_decimal"] = [_decimal(value) for value in values]
        table = pa.table(columns, schema=parquet_schema())
        self._writer.write_table(table, row_group_size=ROWS_AT_ONCE)


def parquet_schema() -> Any:
    """The columns of a Parquet file. Raises ParquetMissing."""
    demand_format(FileFormat.PARQUET)
    types = {
        "int": pa.int64(),
        "text": pa.string(),
        "amount": pa.string(),
        "moment": pa.timestamp("us", tz="UTC"),
    }
    fields = []
    for name, kind in COLUMNS.items():
        fields.append(pa.field(name, types[kind], nullable=name in EMPTY))
        if kind == "amount":
            fields.append(pa.field(f"{name}_decimal", pa.decimal128(DECIMAL_DIGITS, 0)))
    return pa.schema(fields)


def _decimal(value: int) -> Decimal | None:
    return Decimal(value, _EXACT) if -_WIDEST < value < _WIDEST else None


def _json_rows(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise WarehouseFlawed(f"line {number} is no JSON", file=path.name) from error


def _parquet_rows(path: Path) -> Iterator[Any]:
    demand_format(FileFormat.PARQUET)
    try:
        with pq.ParquetFile(path) as file:
            if file.schema_arrow != parquet_schema():
                raise WarehouseFlawed("the columns are not those of an entry", file=path.name)
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise WarehouseFlawed(f"it is no Parquet file: {error}"[:200], file=path.name) from error


def _without_decimals(row: dict[str, Any]) -> dict[str, Any]:
    """The row as JSON has it. Raises ValueError when a decimal says other than the text beside it."""
    for name, kind in COLUMNS.items():
        if kind == "amount" and row.pop(f"{name}_decimal") != _decimal(int(row[name])):
            raise ValueError(f"{name} and {name}_decimal differ")
    return row
