"""What a build makes once of a spec's models: a quantized base, by mlx_lm's converter; mlx_lm's adapters of PEFT's."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlspec.characters import visible
from mlspec.errors import CommandError
from mlspec.model.facts import Facts, ModelFacts
from mlspec.model.plan import Decision, Derivation
from mlspec.runners.mlx_lm.planning.policy import Option

CONVERTER = "mlx_lm 0.32.2"
"""Part of the key: another version may write other bytes."""

PEFT = "peft"
PEFT_CONVERTER = 1
"""The same of our own converter: to be raised when it writes other bytes."""

SHOWN_LINES = 3
_LONGEST_LINE = 300


def derivation(base: ModelFacts, option: Option, dtype: str) -> tuple[Derivation, ...]:
    """What is to be made of the base for this option, whose unquantized floats and scales are of `dtype`: one or none.

    The key is the digest of what is known of the source's files (of weights their headers) and of the settings.
    """
    quantization = option.quantization
    if quantization is None:
        return ()
    settings = {
        "bits": quantization.bits,
        "group_size": quantization.group_size,
        "mode": quantization.mode,
        "dtype": dtype,
        "converter": CONVERTER,
    }
    return (Derivation(base.ref.role, _key(base, settings), settings, option.weights_bytes),)


def conversions(facts: Facts) -> tuple[Derivation, ...]:
    """What is to be made of adapters that aren't in mlx_lm's format."""
    return tuple(_conversion(adapter) for adapter in facts.models if adapter.details.get("format") == PEFT)


def _conversion(adapter: ModelFacts) -> Derivation:
    settings = {"format": PEFT, "converter": PEFT_CONVERTER}
    key = _key(adapter, settings)
    return Derivation(adapter.ref.role, key, settings, adapter.parameter_bytes, work="convert")


def decide_conversions(facts: Facts) -> tuple[Decision, ...]:
    """Of each such adapter, that it is converted."""
    return tuple(_decision(facts.of(made.role)) for made in conversions(facts))


def _decision(adapter: ModelFacts) -> Decision:
    role, details = adapter.ref.role, adapter.details
    rule = f"PEFT's format: the build converts it to mlx_lm's, rank {details['rank']}, scale {details['scale']:g}"
    inputs = tuple(f"facts:{role}/{name}" for name in ("format", "rank", "scale"))
    return Decision(f"model.{role.replace('/', '.')}.format", "converted", rule, inputs)


def derive(settings: Mapping[str, Any], source: Path, into: Path) -> None:
    """Write the model that these settings of a derivation make of the folder `source` into `into`, which must not
    exist yet.

    Raises:
        CommandError: what makes it isn't installed, or failed.
        BadModelFileError: the source is no adapter that can be converted.
    """
    if settings.get("format") == PEFT:
        from mlspec.runners.mlx_lm.peft.converting import convert  # most adapters are mlx_lm's

        convert(source, into)
    else:
        _quantize(settings, source, into)


def _quantize(settings: Mapping[str, Any], source: Path, into: Path) -> None:
    import subprocess  # not at every build

    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    command = _command(settings, source, into)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    if done.returncode != 0:
        raise _failure(done.returncode, done.stdout + done.stderr)
    if not (into / "config.json").is_file():
        raise _failure(done.returncode, "the converter ended well and wrote no model")


def _command(settings: Mapping[str, Any], source: Path, into: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "mlx_lm", "convert"),
        *("--hf-path", str(source), "--mlx-path", str(into), "-q"),
        *("--q-bits", str(settings["bits"]), "--q-group-size", str(settings["group_size"])),
        *("--q-mode", settings["mode"], "--dtype", settings["dtype"]),
    ]


def _failure(status: int, output: str) -> CommandError:
    if "No module named 'mlx_lm'" in output or "No module named mlx_lm" in output:
        help = 'install it: pip install "mlspec-compiler[mlx]"'
        return CommandError("quantize-failed", "quantizing needs mlx_lm, which isn't installed", help, failed=True)
    # Of a traceback the frames are indented: what went wrong is not.
    lines = [visible(line)[:_LONGEST_LINE] for line in output.splitlines() if line.strip() and not line[0].isspace()]
    told = " / ".join(lines[-SHOWN_LINES:]) or "it said nothing"
    help = "try it by itself: mlx_lm.convert --hf-path MODEL --mlx-path FOLDER -q"
    return CommandError("quantize-failed", f"mlx_lm.convert ended with {status}: {told}", help, failed=True)


def _key(base: ModelFacts, settings: Mapping[str, Any]) -> str:
    files = [[file.path, file.size_bytes, file.sha256, file.hashed] for file in base.files]
    text = json.dumps({"files": files, "settings": settings}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
