"""Rows of a file, whatever its format: CSV, JSON lines (both also gzipped) or Parquet; a dict each.

Knows how files are laid out; knows nothing of what a row means.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ops.errors import CliError

FORMATS = ".csv, .csv.gz, .jsonl, .jsonl.gz or .parquet"


class Row(NamedTuple):
    """One row; numbers count from 1, without CSV's header. `problem` tells why it has no fields."""

    number: int
    fields: dict[str, Any]
    problem: str = ""


class Rows:
    """The rows of a file, read as they are iterated over, once. A context manager that closes the file.

    Args:
        path: its ending tells the format.

    Attributes:
        columns: names, where the format has them before the rows; None for JSON lines.
        size, position: how long the file is and how far reading has come, in the same unit.

    Raises CliError, also while iterating, when the file is not what its ending says.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open_files = ExitStack()
        self.position = 0
        self.columns: list[str] | None = None
        try:
            with self._readable():
                self.size, self._rows = self._opener()()
        except CliError:
            self._open_files.close()
            raise

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *error: object) -> None:
        self._open_files.close()

    def __iter__(self) -> Iterator[Row]:
        with self._readable():
            yield from self._rows

    def _opener(self) -> Callable[[], tuple[int, Iterator[Row]]]:
        openers = {
            ".csv": self._csv,
            ".jsonl": self._json_lines,
            ".ndjson": self._json_lines,
            ".parquet": self._parquet,
        }
        ending = "".join(self._path.suffixes[-2:]).lower().removesuffix(".gz")
        kind = ending[ending.rfind(".") :]
        if kind not in openers or (kind == ".parquet" and self._path.suffix.lower() == ".gz"):
            raise CliError(f"{self._path} is of no known format", f"Its name should end in {FORMATS}.")
        return openers[kind]

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
            raise CliError(f"{self._path} cannot be read: {error}", f"Is it really {FORMATS}?") from error

    def _text(self) -> tuple[int, Iterator[str]]:
        raw = self._open_files.enter_context(self._path.open("rb"))
        stream: Any = gzip.GzipFile(fileobj=raw) if self._path.suffix.lower() == ".gz" else raw
        lines = self._open_files.enter_context(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
        return self._path.stat().st_size, self._followed(lines, raw)

    def _followed(self, lines: io.TextIOWrapper, raw: BinaryIO) -> Iterator[str]:
        for line in lines:
            self.position = raw.tell()
            yield line

    def _csv(self) -> tuple[int, Iterator[Row]]:
        size, lines = self._text()
        reader = csv.reader(lines)
        self.columns = [name.strip() for name in next(reader, [])]
        return size, self._csv_rows(reader, self.columns)

    def _csv_rows(self, reader: Iterator[list[str]], columns: list[str]) -> Iterator[Row]:
        for number, values in enumerate((values for values in reader if values), start=1):
            if len(values) == len(columns):
                yield Row(number, dict(zip(columns, values, strict=True)))
            else:
                yield Row(number, {}, f"it has {len(values)} fields, the header has {len(columns)}")

    def _json_lines(self) -> tuple[int, Iterator[Row]]:
        size, lines = self._text()
        filled = (line for line in lines if line.strip())
        return size, (_json_row(number, line) for number, line in enumerate(filled, start=1))

    def _parquet(self) -> tuple[int, Iterator[Row]]:
        file = self._open_files.enter_context(pq.ParquetFile(self._path))
        self.columns = file.schema_arrow.names
        return file.metadata.num_rows, self._parquet_rows(file)

    def _parquet_rows(self, file: Any) -> Iterator[Row]:
        for batch in file.iter_batches(batch_size=4096):
            for fields in batch.to_pylist():
                self.position += 1
                yield Row(self.position, fields)


def _json_row(number: int, line: str) -> Row:
    try:
        return Row(number, msgspec.json.decode(line, type=dict[str, Any]))
    except msgspec.MsgspecError as error:
        return Row(number, {}, f"it is not a JSON object: {error}")
