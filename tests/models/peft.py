"""Adapters in PEFT's format, laid out by hand as its `save_pretrained` does: PEFT itself needs torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
_ENDS = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "m": "lora_magnitude_vector"}
_TYPES = {"float32": "F32", "float16": "F16"}
_STORED = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}

DEFAULTS: dict[str, Any] = {
    "alpha_pattern": {},
    "auto_mapping": None,
    "base_model_name_or_path": None,
    "bias": "none",
    "corda_config": None,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 16,
    "lora_bias": False,
    "lora_dropout": 0.05,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "qalora_group_size": 16,
    "r": 8,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["q_proj", "v_proj"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
}
"""An `adapter_config.json` as PEFT 0.17 writes it."""


def write(folder: Path, tensors: Mapping[str, Array], **config: Any) -> Path:
    """An adapter of these tensors, by PEFT's names; those of type uint16 are the bits of bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).write_text(json.dumps(DEFAULTS | config, indent=2, sort_keys=True))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in sorted(tensors.items()):
        content = array.tobytes()
        header[name] = {
            "dtype": _TYPES.get(array.dtype.name, "BF16"),
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    (folder / WEIGHTS_FILE).write_bytes(len(text).to_bytes(8, "little") + text + data)
    return folder


def read(path: Path) -> dict[str, Array]:
    """The tensors of a safetensors file; bfloat16 as its bits."""
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = (begin + offset for offset in entry["data_offsets"])
            found[name] = np.frombuffer(content[start:end], _STORED[entry["dtype"]]).reshape(entry["shape"])
    return found


def module(path: str, inputs: int, outputs: int, rank: int, seed: int, dtype: str = "F32") -> dict[str, Array]:
    """Both matrices of one adapted linear layer."""
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(rank, inputs)), random.normal(size=(outputs, rank))
    return {
        f"{PREFIX}{path}.lora_A.weight": typed(a, dtype),
        f"{PREFIX}{path}.lora_B.weight": typed(b, dtype),
    }


def typed(values: Array, dtype: str) -> Array:
    """The values in this type; as bfloat16, cut off to its bits."""
    if dtype != "BF16":
        return values.astype(_STORED[dtype])
    return (np.ascontiguousarray(values.astype(np.float32)).view(np.uint32) >> 16).astype(np.uint16)


def plain(array: Array) -> Array:
    """The values as float64, of bfloat16's bits, too."""
    if array.dtype == np.uint16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def as_peft(adapter: Path, into: Path, **config: Any) -> Path:
    """An mlx_lm adapter (float32, low rank) rewritten as PEFT would have saved the same one."""
    said = json.loads((adapter / CONFIG_FILE).read_text())["lora_parameters"]
    tensors = {}
    for name, array in read(adapter / "adapters.safetensors").items():
        path, _, leaf = name.rpartition(".")
        tensors[f"{PREFIX}{path}.{_ENDS[leaf]}"] = np.ascontiguousarray(array.T)
    return write(into, tensors, r=said["rank"], lora_alpha=said["rank"] * said["scale"], **config)
