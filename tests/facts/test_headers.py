"""A model of hundreds of gigabytes is known by its headers: not a byte of a weight is read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from facts import looked_at
from facts.sparse_model import DEEPSEEK_V3, deepseek_v3, write_model
from mlspec.model.facts import ModelFacts
from mlspec.model_files import fingerprint
from mlspec.runners.mlx_lm.architecture import Architecture, Experts, Layers
from mlspec.runners.mlx_lm.model import Quantization
from mlspec.runners.mlx_lm.weights import quantizable, weight_bytes

SHARDS = 160
LOOK = """
import sys
from pathlib import Path
from mlspec.model.facts import ModelRef
from mlspec.model.spec import Source
from mlspec.runners.mlx_lm.facts import inspect_base
facts = inspect_base(ModelRef("base", Source(path="x"), ("base",)), Path(sys.argv[1]), None)
print(facts.parameter_bytes)
"""


def look(folder: Path) -> ModelFacts:
    heard = looked_at.Heard()
    found = looked_at.inspect_base(looked_at.ModelRef("base", looked_at.Source(path="x"), ("base",)), folder, heard)
    assert found is not None
    assert not heard.all
    return found


def header_lengths(folder: Path) -> list[int]:
    lengths = []
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            lengths.append(int.from_bytes(file.read(8), "little"))
    return lengths


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("deepseek") / "model"
    write_model(made, DEEPSEEK_V3, deepseek_v3(), SHARDS)
    return made


@pytest.fixture(scope="module")
def facts(folder: Path) -> ModelFacts:
    return look(folder)


def test_bytes_are_exact(facts: ModelFacts) -> None:
    """688 GB: 671 billion weights of 8 bits and 14 of the layer that predicts a token more, with their scales."""
    assert facts.parameter_bytes == 688_472_104_000
    assert len(facts.files) == SHARDS + 2


def test_the_architecture(facts: ModelFacts) -> None:
    """As its authors tell: 671 billion parameters, 37 billion of them for a token (with its row of the embedding)."""
    assert Architecture.from_data(facts.details["architecture"]) == Architecture(
        known=True,
        layers=61,
        hidden=7168,
        heads=128,
        head_dim=192,
        intermediate=18432,
        vocabulary=129280,
        parameters=671_026_419_200,
        active_parameters=36_625_618_432,
        keeps=(Layers(61, "latent", 1, 512, 64),),
        experts=Experts(256, 8),
    )


def test_the_weights_in_memory(facts: ModelFacts) -> None:
    """In bfloat16 as mlx_lm loads them, without the further layer; quantized, 4.5 bits for nearly each of them."""
    in_full = weight_bytes(facts.details, None, None)
    assert in_full == 2 * 671_026_419_200 + 2 * 58 * 256  # a bias of each router's experts is in float32
    assert quantizable(facts.details)
    four = weight_bytes(facts.details, Quantization(), None)
    assert 4.5 < 8 * four / 671_026_419_200 < 4.503


def test_the_table_is_small(facts: ModelFacts) -> None:
    assert len(facts.details["tensors"]) == 44
    assert len(str(facts.details)) < 12_000
    experts = [row for row in facts.details["tensors"] if row["name"].endswith("experts.*.up_proj.weight")]
    assert experts == [
        {
            "name": "model.layers.*.mlp.experts.*.up_proj.weight",
            "shape": [2048, 7168],
            "dtype": "F8_E4M3",
            "count": 59 * 256,
            "layers": [[3, 61]],
        }
    ]


def test_it_is_the_same_each_time(facts: ModelFacts, folder: Path) -> None:
    assert look(folder) == facts
    assert facts.files == fingerprint(folder, [file.path for file in facts.files])


def test_headers_are_read_once_and_nothing_after_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = sum(8 + length for length in header_lengths(folder))
    read, real = [], os.pread

    def counted(handle: int, length: int, offset: int) -> bytes:
        read.append(length)
        return real(handle, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    look(folder)
    assert (sum(read), len(read)) == (headers, 2 * SHARDS)


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace")
def test_what_the_system_sees(folder: Path, tmp_path: Path) -> None:
    """Every read of a file of weights is a pread of its header."""
    log = tmp_path / "log"
    trace = [
        "strace",
        "-f",
        "-y",
        "-e",
        "trace=read,pread64,readv,preadv,mmap,sendfile,copy_file_range",
        "-o",
        str(log),
    ]
    done = subprocess.run(
        [*trace, sys.executable, "-c", LOOK, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "688472104000", done.stderr
    calls = [line for line in log.read_text().splitlines() if ".safetensors>" in line]
    lengths = header_lengths(folder)
    assert all(" pread64(" in call for call in calls)
    found = [re.search(r", (\d+), (\d+)\)\s+= (\d+)$", call) for call in calls]
    places = sorted((int(one[2]), int(one[3])) for one in found if one is not None)
    assert places == sorted([(0, 8)] * SHARDS + [(8, length) for length in lengths])


def test_a_header_of_too_many_names(tmp_path: Path) -> None:
    names: Any = [(f"x{n}.weight", ("U8", (1,))) for n in range(30_000)]
    found, heard = looked_at.base(tmp_path / "many", DEEPSEEK_V3, names)
    assert found is None
    assert [code for _, code, _, _ in heard.all] == ["bad-model-file"]
