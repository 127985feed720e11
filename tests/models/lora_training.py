"""A LoRA adapter by mlx_lm's own training command, in a process of its own, with nothing local left in it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.blas import environment
from models.corpus import Message

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapters.safetensors"


@dataclass(frozen=True)
class LoraSettings:
    """What `mlx_lm.lora` is told; `rank` and `scale` go into its `lora_parameters`."""

    num_layers: int
    iters: int
    batch_size: int = 4
    learning_rate: float = 2e-4
    rank: int = 8
    scale: float = 20.0
    max_seq_length: int = 256
    decays: bool = False
    seed: int = 0

    def arguments(self) -> dict[str, Any]:
        """The settings under the names of mlx_lm's configuration file."""
        values = asdict(self)
        parameters = {"rank": values.pop("rank"), "scale": values.pop("scale"), "dropout": 0.0}
        cosine = {"name": "cosine_decay", "arguments": [self.learning_rate, self.iters]}
        schedule = cosine if values.pop("decays") else None
        return {**values, "lora_parameters": parameters, "lr_schedule": schedule}


def train_adapter(model: Path, out: Path, rows: Sequence[list[Message]], settings: LoraSettings, name: str) -> None:
    """Train on `rows` (chats); leave exactly the two adapter files in `out`, with `name` as the model."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write_rows(folder, rows)
        _run_mlx_lm(folder, model, settings)
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "adapter" / WEIGHTS_FILE, out / WEIGHTS_FILE)
        config = json.loads((folder / "adapter" / CONFIG_FILE).read_text(encoding="utf-8"))
        text = json.dumps(_scrubbed(config, settings, name), indent=2, sort_keys=True)
        (out / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def _write_rows(folder: Path, rows: Sequence[list[Message]]) -> None:
    lines = "".join(json.dumps({"messages": row}) + "\n" for row in rows)
    for split in ("train", "valid"):
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")


def _run_mlx_lm(folder: Path, model: Path, settings: LoraSettings) -> None:
    """JSON is YAML, so the configuration file needs no YAML library here."""
    arguments = {
        **settings.arguments(),
        "model": str(model),
        "data": str(folder),
        "adapter_path": str(folder / "adapter"),
        "train": True,
        "mask_prompt": True,
        "val_batches": 1,
        "steps_per_eval": settings.iters,
        "save_every": settings.iters,
    }
    config = folder / "lora.json"
    config.write_text(json.dumps(arguments), encoding="utf-8")
    command = [sys.executable, "-m", "mlx_lm", "lora", "--config", str(config)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"mlx_lm lora ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")


def _scrubbed(config: dict[str, Any], settings: LoraSettings, name: str) -> dict[str, Any]:
    """What describes the adapter; not where it was trained, nor how the training reported itself."""
    kept = {*settings.arguments(), "fine_tune_type", "mask_prompt", "optimizer"}
    return {"model": name, **{key: value for key, value in config.items() if key in kept}}
