"""Rows of all kinds of input through a model of tensors, and what the output says of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from batch.bundles import X, bundle, done, job, numbers, records
from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.parts import Failure
from mlspec_runtime.batch.sources.opening import open_source

ECHO = """
    import numpy as np

    class Model:
        def predict(self, inputs):
            return {name + "_out": value for name, value in inputs.items()}
"""


def echo(folder: Path, *inputs: dict[str, Any]) -> Path:
    outputs = [{"name": f"{one['name']}_out", "dtype": one["dtype"], "shape": one["shape"]} for one in inputs]
    return bundle(folder, ECHO, inputs, outputs)


def tensor(name: str, dtype: str, *shape: int | str) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape)}


def test_rows_keep_their_order_and_numbers(tmp_path: Path) -> None:
    numbers(tmp_path / "in.jsonl", range(100, 3100))
    summary = done(job(tmp_path, "in.jsonl"), bundle(tmp_path / "b"))
    assert (summary.rows, summary.failed) == (3000, 0)
    rows = records(tmp_path / "out.jsonl")
    assert rows[0] == {"row": 0, "y": 200.0, "pair": [100.0, -100.0]}
    assert [row["row"] for row in rows] == list(range(3000))
    assert [row["y"] for row in rows] == [2.0 * n for n in range(100, 3100)]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b", "in.jsonl", "out.jsonl"]


def test_bad_rows_fail_alone(tmp_path: Path) -> None:
    lines = [
        '{"x": 1, "id": "ü"}',
        '{"x": "one"}',
        '{"id": 3}',
        "",
        '{"x": null}',
        "[1]",
        '{"x": 7}',
        "{oops",
        '{"x": 5}',
    ]
    content = "\ufeff" + "\n".join(lines)
    (tmp_path / "in.jsonl").write_bytes(content.encode() + b'\n{"x": "\xff"}\n{"x": 1e999}\r\n{"x": 6, "x": 8}')
    summary = done(job(tmp_path, "in.jsonl", keep=("id", "x")), bundle(tmp_path / "b"))
    assert (summary.rows, summary.failed) == (11, 8)
    assert [(row["id"], row["y"]) for row in records(tmp_path / "out.jsonl")] == [
        ("ü", 2.0),
        (None, 10.0),
        (None, 16.0),
    ]
    failed = {row["row"]: row for row in records(tmp_path / "out.jsonl.failed.jsonl")}
    assert sorted(failed) == [1, 2, 3, 4, 5, 6, 8, 9]
    assert failed[1]["input"] == {"x": "one"}
    assert failed[1]["error"]["code"] == "invalid_request"
    assert failed[1]["error"]["field"].startswith("inputs.x")
    assert "no value in 'x'" in failed[2]["error"]["message"]
    assert failed[4]["input"] == "[1]"
    assert failed[4]["error"]["code"] == "invalid_row"
    assert failed[5]["error"]["code"] == "model_error"
    assert failed[5]["error"]["log"] == "ValueError: seven is too much"
    assert "not JSON" in failed[6]["error"]["message"]
    assert "UTF-8" in failed[8]["error"]["message"]


def test_one_bad_row_costs_no_other_its_answer(tmp_path: Path) -> None:
    numbers(tmp_path / "in.jsonl", [*range(8, 500), 7, *range(500, 900), 7, 7])
    summary = done(job(tmp_path, "in.jsonl"), bundle(tmp_path / "b"))
    assert (summary.rows, summary.failed) == (895, 3)
    assert [row["row"] for row in records(tmp_path / "out.jsonl.failed.jsonl")] == [492, 893, 894]
    assert len(records(tmp_path / "out.jsonl")) == 892


def test_csv_is_read_by_the_models_types(tmp_path: Path) -> None:
    inputs = (
        tensor("count", "int64", "batch"),
        tensor("score", "float64", "batch"),
        tensor("sure", "bool", "batch"),
        tensor("name", "string", "batch"),
        tensor("flat", "float32", "batch", 2),
        tensor("pair", "int8", "batch", 2),
    )
    text = 'count,score,sure,name,flat,a,b,other\r\n12,1.5e3,true,"Ann, ""B""\nC",[1.5,2],1,-2,x\r\n'
    text += '1.5,1,true,a,"[1,2]",1,2,\n1,1,true,a,"[1,2]",1,\n007,  2 ,FALSE,,"[1, 2]",3,4,\n1_0,1,1,é,[],1,2,3\n'
    (tmp_path / "in.csv").write_bytes(text.replace("[1.5,2]", '"[1.5,2]"').encode() + b'1,1,1,\xe9,"[1,2]",1,2,\n')
    place = echo(tmp_path / "b", *inputs)
    summary = done(job(tmp_path, "in.csv", columns={"pair": "a,b"}, keep=("name",)), place)
    assert (summary.rows, summary.failed) == (6, 4)
    first, second = records(tmp_path / "out.jsonl")
    assert first == {
        **{"name": 'Ann, "B"\nC', "count_out": 12, "score_out": 1500.0, "sure_out": True},
        **{"name_out": 'Ann, "B"\nC', "flat_out": [1.5, 2.0], "pair_out": [1, -2]},
    }
    assert (second["count_out"], second["score_out"], second["sure_out"], second["name_out"]) == (7, 2.0, False, "")
    errors = [row["error"]["message"] for row in records(tmp_path / "out.jsonl.failed.jsonl")]
    assert "7 fields" in errors[1]
    assert "UTF-8" in errors[3]


def test_csv_is_written_with_lists_as_json(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('x,id\n1,"a,b"\n2,"=c\n""d"""\n', newline="")
    done(job(tmp_path, "in.csv", "out.csv", keep=("id",)), bundle(tmp_path / "b"))
    with (tmp_path / "out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["id", "y", "pair"],
            ["a,b", "2.0", "[1.0,-1.0]"],
            ['=c\n"d"', "4.0", "[2.0,-2.0]"],
        ]


@pytest.mark.parametrize(("name", "content"), [("in.jsonl", ""), ("in.jsonl", "\n \n"), ("in.csv", "x,id\n")])
@pytest.mark.parametrize("output", ["out.jsonl", "out.csv"])
def test_an_empty_input_gives_an_empty_output(tmp_path: Path, name: str, content: str, output: str) -> None:
    (tmp_path / name).write_text(content)
    summary = done(job(tmp_path, name, output), bundle(tmp_path / "b"))
    assert (summary.rows, summary.failed) == (0, 0)
    assert (tmp_path / output).read_text() == ("row,y,pair\n" if output == "out.csv" else "")
    assert not (tmp_path / "out.jsonl.failed.jsonl").exists()


def test_a_folder_of_tables_is_read_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "in put"
    (folder / "b").mkdir(parents=True)
    numbers(folder / "b" / "1.jsonl", [3, 4])
    numbers(folder / "a é.jsonl", [1, 2])
    numbers(folder / "z.ndjson", [5])
    numbers(folder / ".hidden.jsonl", [9])
    (folder / "README.md").write_text("no rows")
    done(job(tmp_path, folder, keep=("x",)), bundle(tmp_path / "b"))
    assert [row["x"] for row in records(tmp_path / "out.jsonl")] == [1, 2, 3, 4, 5]


def test_a_folder_of_texts_gives_a_row_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("ein Text\n")
    (folder / "sub/b.TXT").write_text("zwei")
    (folder / "bad.txt").write_bytes(b"\xff\xfe")
    (folder / "dead.txt").symlink_to("nowhere")
    (folder / "inside.txt").symlink_to("sub/b.TXT")
    (tmp_path / "secret.txt").write_text("a secret")
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "self.txt").symlink_to("self.txt")
    place = echo(tmp_path / "b", tensor("words", "string", "batch"))
    summary = done(job(tmp_path, folder), place)
    assert (summary.rows, summary.failed) == (7, 4)
    assert records(tmp_path / "out.jsonl") == [
        {"path": "a.txt", "words_out": "ein Text\n"},
        {"path": "inside.txt", "words_out": "zwei"},
        {"path": "sub/b.TXT", "words_out": "zwei"},
    ]
    failed = {row["input"]["path"]: row for row in records(tmp_path / "out.jsonl.failed.jsonl")}
    assert failed["bad.txt"]["input"] == {"path": "bad.txt", "size_bytes": 2}
    told = {path: row["error"]["message"] for path, row in failed.items()}
    assert told["dead.txt"] == told["self.txt"] == "the link leads nowhere"
    assert told["out.txt"] == "the link leads out of the input's folder, and is not followed"
    assert "secret" not in json.dumps(list(failed.values()))


@pytest.mark.parametrize("name", ["a.jsonl", "folder"])
def test_links_of_tables_and_folders_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    numbers(folder / "b.jsonl", [1])
    numbers(tmp_path / "a.jsonl", [2])
    (tmp_path / "folder").mkdir()
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(BatchError, match="not followed") as refused:
        done(job(tmp_path, folder), bundle(tmp_path / "b"))
    assert refused.value.kind == "input"


def test_what_is_shown_of_failed_files_is_their_path_and_size(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.txt").write_text("private text")
    place = bundle(
        tmp_path / "b",
        "class Model:\n    def predict(self, inputs):\n        raise ValueError('no')\n",
        (tensor("words", "string", "batch"),),
        (tensor("y", "float32", "batch"),),
    )
    assert done(job(tmp_path, folder), place).failed == 1
    assert records(tmp_path / "out.jsonl.failed.jsonl")[0]["input"] == {"path": "a.txt", "size_bytes": 12}


def test_of_bytes_in_a_failed_row_their_number_is_shown() -> None:
    failure = Failure(3, {"image": {"bytes": b"\x89PNG", "path": "a.png"}, "more": [b"\xff", "text"]}, {"code": "x"})
    shown = json.loads(failure.line())["input"]
    assert shown == {"image": {"bytes": {"size_bytes": 4}, "path": "a.png"}, "more": [{"size_bytes": 1}, "text"]}


def test_a_model_whose_rows_cant_be_stacked_is_asked_row_by_row(tmp_path: Path) -> None:
    place = echo(tmp_path / "b", tensor("a", "float32", 2), tensor("n", "int64"))
    (tmp_path / "in.jsonl").write_text('{"a": [1, 2], "n": 3}\n{"a": [1], "n": 3}\n{"a": [3, 4], "n": 5}\n')
    summary = done(job(tmp_path, "in.jsonl"), place)
    assert (summary.rows, summary.failed) == (3, 1)
    assert records(tmp_path / "out.jsonl") == [
        {"row": 0, "a_out": [1.0, 2.0], "n_out": 3},
        {"row": 2, "a_out": [3.0, 4.0], "n_out": 5},
    ]


def test_labels_are_columns(tmp_path: Path) -> None:
    code = """
        class Model:
            def predict(self, inputs):
                return {"kind": inputs["x"].astype("int64"), "scores": inputs["x"][:, None] * [[1.0, -1.0]]}
    """
    outputs = [
        {"name": "kind", "dtype": "int64", "shape": ["batch"], "labels": ["no", "yes"]},
        {"name": "scores", "dtype": "float32", "shape": ["batch", 2], "labels": ["up", "down"]},
    ]
    numbers(tmp_path / "in.jsonl", [1, 0])
    done(job(tmp_path, "in.jsonl"), bundle(tmp_path / "b", code, outputs=outputs))
    first = records(tmp_path / "out.jsonl")[0]
    assert first == {"row": 0, "kind": 1, "kind_label": "yes", "scores": [1.0, -1.0], "scores_label": "up"}


@pytest.mark.parametrize(
    ("changes", "content", "told"),
    [
        ({"columns": {"z": "x"}}, '{"x": 1}', "the model has no input 'z'"),
        ({"columns": {"x": "z"}}, '{"x": 1}', "has no column 'z' here"),
        ({}, '{"z": 1}', "has no column 'x' here; the input has z"),
        ({"keep": ("w",)}, '{"x": 1}', "the input has no such column"),
        ({"keep": ("y",)}, '{"x": 1, "y": 2}', "two columns 'y'"),
    ],
)
def test_columns_that_dont_fit_are_told_before_anything_is_computed(
    tmp_path: Path, changes: dict[str, Any], content: str, told: str
) -> None:
    (tmp_path / "in.jsonl").write_text(content)
    with pytest.raises(BatchError, match=told) as refused:
        done(job(tmp_path, "in.jsonl", **changes), bundle(tmp_path / "b"))
    assert refused.value.kind == "columns"
    assert not (tmp_path / "out.jsonl.parts").exists()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("in.csv", b"", "no first line"),
        ("in.csv", b"x;id\n1;2\n", "has semicolons between its columns"),
        ("in.csv", b"x,x\n1,2\n", "names the column 'x' twice"),
        ("in.csv", b'x\n"1\n2\n', "line"),
        ("in.xlsx", b"", "is no table"),
        ("none.csv", None, "is not there"),
        ("a/in.csv", b"x\n", "holds no rows"),
    ],
)
def test_what_is_no_input_is_told(tmp_path: Path, name: str, content: bytes | None, told: str) -> None:
    source = tmp_path / name
    if content is not None:
        source.parent.mkdir(exist_ok=True)
        source.write_bytes(content)
    if "a/" in name:
        source.rename(source.with_name("readme"))
    with pytest.raises(BatchError, match=told) as refused:
        done(job(tmp_path, name.partition("/")[0] if "/" in name else name), bundle(tmp_path / "b"))
    assert refused.value.kind == "input"


def test_a_folder_of_several_kinds_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    numbers(folder / "a.jsonl", [1])
    (folder / "b.csv").write_text("x\n1\n")
    with pytest.raises(BatchError, match="several kinds: csv, jsonl"):
        done(job(tmp_path, folder), bundle(tmp_path / "b"))


def test_a_long_line_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlspec_runtime.batch.sources.jsonl.CELL_BYTES", 1000)
    long = json.dumps({"x": 1, "pad": "p" * 5000})
    (tmp_path / "in.jsonl").write_text(f'{{"x": 1}}\n{long}\n{{"x": 2}}\n')
    summary = done(job(tmp_path, "in.jsonl"), bundle(tmp_path / "b"))
    assert (summary.rows, summary.failed) == (3, 1)
    assert [row["row"] for row in records(tmp_path / "out.jsonl")] == [0, 2]


def test_a_model_that_cant_be_loaded_ends_the_batch(tmp_path: Path) -> None:
    numbers(tmp_path / "in.jsonl", [1])
    place = bundle(
        tmp_path / "b", "class Model:\n    def load(self, artifacts):\n        raise ValueError('no weights')\n"
    )
    with pytest.raises(BatchError, match="no weights") as refused:
        done(job(tmp_path, "in.jsonl"), place)
    assert refused.value.kind == "model"


def test_a_models_thread_that_dies_ends_the_batch_and_fails_no_row(tmp_path: Path) -> None:
    assert X["name"] == "x"
    numbers(tmp_path / "in.jsonl", range(10, 20))
    place = bundle(tmp_path / "b")
    asked = job(tmp_path, "in.jsonl")
    import mlspec_runtime.predict.computing as computing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(computing, "choose", lambda *given: [][0])
        with pytest.raises(BatchError, match="can't go on") as ended:
            done(asked, place)
    assert ended.value.kind == "model"
    assert done(asked, place).failed == 0


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_how_far_it_is_grows_row_by_row(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"in.{suffix}"
    if suffix == "csv":
        source.write_text("x\n" + "1\n" * 100)
    else:
        numbers(source, range(100))
    size_bytes = source.stat().st_size
    (piece,) = open_source(source).pieces(("x",), 0)
    read = [piece.part(at, at + 10).read_bytes for at in range(0, 100, 10)]
    assert read == sorted(set(read))
    assert 0.05 < read[0] / size_bytes < 0.15
    assert read[-1] == size_bytes
