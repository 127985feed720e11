"""Batches of Parquet files, and of images: types, nulls, what is kept, and parts that are joined."""

from __future__ import annotations

import io
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch.bundles import bundle, done, job, records

pytestmark = pytest.mark.frameworks
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
ECHO = """
    class Model:
        def predict(self, inputs):
            return {name + "_out": value for name, value in inputs.items()}
"""


def echo(folder: Path, *inputs: tuple[str, str, list[int | str]], **more: Any) -> Path:
    taken = [{"name": name, "dtype": dtype, "shape": shape, **more} for name, dtype, shape in inputs]
    given = [{"name": f"{name}_out", "dtype": dtype, "shape": shape} for name, dtype, shape in inputs]
    return bundle(folder, ECHO, taken, given)


def test_types_come_and_go(tmp_path: Path) -> None:
    count = 20_000
    table = pa.table(
        {
            "small": pa.array(np.arange(count) % 100, pa.int8()),
            "flat": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2 * count), pa.float32()), 2),
            "grid": pa.array([[[n, n], [n, 1]] for n in range(count)], pa.list_(pa.list_(pa.int16()))),
            "text": pa.array([f"té {n}" for n in range(count)]),
            "sure": pa.array([n % 2 == 0 for n in range(count)]),
            "price": pa.array([Decimal(n) / 4 for n in range(count)], pa.decimal128(12, 2)),
            "day": pa.array([date(2026, 1, 1)] * count),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=3000)
    place = echo(
        tmp_path / "b",
        ("small", "int8", ["batch"]),
        ("flat", "float32", ["batch", 2]),
        ("grid", "int32", ["batch", 2, 2]),
        ("text", "string", ["batch"]),
        ("sure", "bool", ["batch"]),
        ("price", "float64", ["batch"]),
    )
    asked = job(tmp_path, "in.parquet", "out.parquet", keep=("day", "text"), rows_per_part=7000)
    assert done(asked, place).failed == 0
    read = pq.read_table(tmp_path / "out.parquet")
    assert read.column_names == [
        "day",
        "text",
        "small_out",
        "flat_out",
        "grid_out",
        "text_out",
        "sure_out",
        "price_out",
    ]
    assert read.schema.field("day").type == pa.date32()
    assert read.schema.field("grid_out").type == pa.list_(pa.list_(pa.int32()))
    assert read.column("small_out").to_pylist() == table.column("small").to_pylist()
    assert read.column("grid_out").to_pylist() == table.column("grid").to_pylist()
    assert read.column("flat_out").to_pylist() == table.column("flat").to_pylist()
    assert read.column("text_out").to_pylist() == read.column("text").to_pylist()
    assert read.column("price_out").to_pylist() == [n / 4 for n in range(count)]
    # Parts of 7,000 rows and more, joined to one group of rows.
    assert pq.ParquetFile(tmp_path / "out.parquet").metadata.num_row_groups == 1


def test_rows_without_a_value_or_of_another_length_fail_alone(tmp_path: Path) -> None:
    rows = [[1.0, 2.0], None, [3.0], [None, 1.0], [5.0, 6.0], [float("nan"), 0.0]]
    pq.write_table(pa.table({"v": pa.array(rows), "id": list(range(6))}), tmp_path / "in.parquet")
    summary = done(job(tmp_path, "in.parquet", keep=("id",)), echo(tmp_path / "b", ("v", "float32", ["batch", 2])))
    assert (summary.rows, summary.failed) == (6, 4)
    assert records(tmp_path / "out.jsonl") == [{"id": 0, "v_out": [1.0, 2.0]}, {"id": 4, "v_out": [5.0, 6.0]}]
    assert [row["row"] for row in records(tmp_path / "out.jsonl.failed.jsonl")] == [1, 2, 3, 5]


def test_several_columns_of_several_files(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for part in range(3):
        columns = {"a": np.arange(10) + 10 * part, "b": np.arange(10.0), "id": [f"{part}.{n}" for n in range(10)]}
        pq.write_table(pa.table(columns), folder / f"{part}.parquet")
    place = echo(tmp_path / "b", ("v", "float32", ["batch", 2]))
    asked = job(tmp_path, folder, columns={"v": "a,b"}, keep=("id",), rows_per_part=7, batch_rows=4)
    assert done(asked, place).rows == 30
    rows = records(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == [f"{part}.{n}" for part in range(3) for n in range(10)]
    assert rows[13] == {"id": "1.3", "v_out": [13.0, 3.0]}


def test_an_empty_table(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": pa.array([], pa.float32())}), tmp_path / "in.parquet")
    done(job(tmp_path, "in.parquet", "out.parquet"), echo(tmp_path / "b", ("v", "float32", ["batch"])))
    read = pq.read_table(tmp_path / "out.parquet")
    assert (read.num_rows, str(read.schema.field("v_out").type)) == (0, "float")


def image_bytes(value: int, size: int = 4) -> bytes:
    image = pytest.importorskip("PIL.Image")
    content = io.BytesIO()
    image.new("L", (size, size), value).save(content, "PNG")
    return content.getvalue()


def test_images_of_a_folder_and_of_a_table(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "ü").mkdir(parents=True)
    for value in range(5):
        (folder / "ü" / f"{value}.png").write_bytes(image_bytes(value))
    (folder / "bad.png").write_bytes(b"no image")
    (folder / "large.png").write_bytes(image_bytes(1, 5))
    gray = {"mode": "gray", "layout": "none"}
    place = echo(tmp_path / "b", ("shown", "uint8", ["batch", 4, 4]), image=gray)
    summary = done(job(tmp_path, folder), place)
    assert (summary.rows, summary.failed) == (7, 2)
    rows = records(tmp_path / "out.jsonl")
    assert [(row["path"], row["shown_out"][0][0]) for row in rows] == [(f"ü/{n}.png", n) for n in range(5)]
    cells = [{"bytes": image_bytes(value), "path": None} for value in range(3)]
    pq.write_table(pa.table({"image": cells}), tmp_path / "in.parquet")
    assert done(job(tmp_path, "in.parquet", "two.jsonl"), place).failed == 0
    assert [row["shown_out"][0][0] for row in records(tmp_path / "two.jsonl")] == [0, 1, 2]


def test_resumed_within_a_group_of_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": np.arange(1000, dtype=np.float32)}), tmp_path / "in.parquet", row_group_size=400)
    place = echo(tmp_path / "b", ("v", "float32", ["batch"]))
    asked = job(tmp_path, "in.parquet", "out.parquet", rows_per_part=150, batch_rows=50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlspec_runtime.batch.work.Work.join", lambda work, sink: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            done(asked, place)
    parts = sorted(asked.work.glob("part-*"))
    assert len(parts) == 7
    parts[1].unlink()
    parts[3].unlink()
    done(asked, place)
    read = pq.read_table(tmp_path / "out.parquet")
    assert read.column("row").to_pylist() == list(range(1000))
    assert read.column("v_out").to_pylist() == [float(n) for n in range(1000)]
