"""The tiny model that is shipped: small, whole, and free of anything local. Needs no MLX."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

MODELS = Path(__file__).resolve().parents[1] / "specs" / "models"
BASE, ADAPTER = MODELS / "tiny", MODELS / "tiny-support"
SIZE_LIMIT_BYTES = 2_000_000
BASE_FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
ADAPTER_FILES = {"adapter_config.json", "adapters.safetensors"}

Header = dict[str, dict[str, Any]]


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in _strings(item))]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def _tensors(path: Path) -> tuple[Header, int]:
    """The tensors of a safetensors file by its header, and how many bytes of data follow it."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header: Header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return header, len(data) - 8 - length


def _count(shape: list[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


@pytest.mark.parametrize(("folder", "files"), [(BASE, BASE_FILES), (ADAPTER, ADAPTER_FILES)])
def test_exactly_the_files_that_mlx_lm_reads(folder: Path, files: set[str]) -> None:
    assert {path.name for path in folder.iterdir()} == files


def test_both_folders_are_at_most_two_megabytes() -> None:
    sizes = [path.stat().st_size for folder in (BASE, ADAPTER) for path in folder.iterdir()]
    assert sum(sizes) <= SIZE_LIMIT_BYTES


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_base_settings_name_no_local_path(name: str) -> None:
    assert not [text for text in _strings(_json(BASE / name)) if text.startswith(("/", "~", "file:"))]


def test_adapter_settings_name_the_base_by_its_place_in_the_project() -> None:
    config = _json(ADAPTER / "adapter_config.json")
    assert config["model"] == "specs/models/tiny"
    assert not {"data", "adapter_path", "config"} & set(config)
    assert not [text for text in _strings(config) if text.startswith(("/", "~", "file:"))]


@pytest.mark.parametrize("path", [BASE / "model.safetensors", ADAPTER / "adapters.safetensors"], ids=str)
def test_tensors_are_float32_and_fill_the_file(path: Path) -> None:
    tensors, data_bytes = _tensors(path)
    assert {tensor["dtype"] for tensor in tensors.values()} == {"F32"}
    assert sum(4 * _count(tensor["shape"]) for tensor in tensors.values()) == data_bytes
    assert max(tensor["data_offsets"][1] for tensor in tensors.values()) == data_bytes


def test_adapter_fits_the_base() -> None:
    weights, _ = _tensors(BASE / "model.safetensors")
    lora, _ = _tensors(ADAPTER / "adapters.safetensors")
    rank = _json(ADAPTER / "adapter_config.json")["lora_parameters"]["rank"]
    for name, tensor in lora.items():
        layer, part = name.rsplit(".", 1)
        outputs, inputs = weights[f"{layer}.weight"]["shape"]
        assert tensor["shape"] == ([inputs, rank] if part == "lora_a" else [rank, outputs])


def test_vocabulary_of_tokenizer_and_model_agree() -> None:
    config, tokenizer = _json(BASE / "config.json"), _json(BASE / "tokenizer.json")
    weights, _ = _tensors(BASE / "model.safetensors")
    assert len(tokenizer["model"]["vocab"]) == config["vocab_size"]
    assert weights["model.embed_tokens.weight"]["shape"] == [config["vocab_size"], config["hidden_size"]]


def test_end_token_is_the_same_everywhere() -> None:
    end = _json(BASE / "tokenizer_config.json")["eos_token"]
    number = _json(BASE / "tokenizer.json")["model"]["vocab"][end]
    assert _json(BASE / "config.json")["eos_token_id"] == number
    assert _json(BASE / "generation_config.json")["eos_token_id"] == number
