"""Rows of files: the same rows whatever the format, and clear words for files that are not what they seem."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from ops.errors import CliError
from ops.rows import Row, Rows

CSV = 'user,item,time\r\nü1,i1,1\r\nu2,"a,b\nc",2\r\n\r\n'


def read(path: Path) -> tuple[Rows, list[Row]]:
    with Rows(path) as rows:
        return rows, list(rows)


def write(path: Path, text: str) -> Path:
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "two.dots.CSV"])
def test_csv(tmp_path, name):
    rows, found = read(write(tmp_path / name, CSV))
    assert rows.columns == ["user", "item", "time"]
    assert [(row.number, row.fields) for row in found] == [
        (1, {"user": "ü1", "item": "i1", "time": "1"}),
        (2, {"user": "u2", "item": "a,b\nc", "time": "2"}),
    ]
    assert rows.position == rows.size > 0


def test_csv_as_a_spreadsheet_writes_it_has_no_byte_order_mark_in_its_first_name(tmp_path):
    rows, _ = read(write(tmp_path / "x.csv", "\ufeffuser,item\n1,2\n"))
    assert rows.columns == ["user", "item"]


def test_a_csv_row_of_another_length_is_told_and_the_next_is_read(tmp_path):
    _, (first, second) = read(write(tmp_path / "x.csv", "user,item\n1,2,3\n4,5\n"))
    assert first.problem == "it has 3 fields, the header has 2"
    assert second.fields == {"user": "4", "item": "5"}


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson", "x.jsonl.gz"])
def test_json_lines(tmp_path, name):
    rows, found = read(write(tmp_path / name, '{"user": "u", "items": ["a"]}\n\n[1]\n{"user"\n{"user": 3}\n'))
    assert rows.columns is None
    assert [row.number for row in found] == [1, 2, 3, 4]
    assert [row.fields for row in found] == [{"user": "u", "items": ["a"]}, {}, {}, {"user": 3}]
    assert [row.problem.partition(":")[0] for row in found] == ["", *["it is not a JSON object"] * 2, ""]
    assert rows.position == rows.size


def test_parquet(tmp_path):
    pd.DataFrame({"user": ["u", "v"], "time": [1, 2]}).to_parquet(tmp_path / "x.parquet")
    rows, found = read(tmp_path / "x.parquet")
    assert (rows.columns, rows.size, rows.position) == (["user", "time"], 2, 2)
    assert [(row.number, row.fields) for row in found] == [(1, {"user": "u", "time": 1}), (2, {"user": "v", "time": 2})]


@pytest.mark.parametrize("name", ["x.txt", "x", "x.parquet.gz", "x.gz"])
def test_an_unknown_ending_lists_the_known_ones(tmp_path, name):
    with pytest.raises(CliError, match=r"x.* is of no known format\nIts name should end in \.csv, .* or \.parquet"):
        read(write(tmp_path / name, "a"))


def test_a_file_that_is_not_what_its_ending_says(tmp_path):
    (tmp_path / "x.csv.gz").write_bytes(b"user,item\n")
    (tmp_path / "x.parquet").write_bytes(b"user,item\n")
    (tmp_path / "latin.csv").write_bytes("user\nü\n".encode("latin-1"))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(CSV.encode() * 1000)[:-20])
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(CliError, match="cannot be read"):
            read(path)


def test_an_empty_file_has_no_columns_and_no_rows(tmp_path):
    rows, found = read(write(tmp_path / "x.csv", ""))
    assert rows.columns == found == []
