"""A program of its own: makes a Core ML package of a network of torch. It runs the network's code.

`python -m mlspec.runners.coreml.converting` reads what to do as JSON from standard input (see `conversion.convert`).
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlspec.model.signature import Tensor
from mlspec.runners.coreml.conversion import PACKAGE
from mlspec_runtime.predict.user_code import user_class

_EXAMPLE_ROWS = 2
"""Of one row torch would take the size for a constant."""


def make(settings: Mapping[str, Any], source: Path, into: Path) -> None:
    """Write the package into the folder `into`. Raises whatever goes wrong."""
    inputs, outputs = ([Tensor(**tensor) for tensor in settings[key]] for key in ("inputs", "outputs"))
    program = _program(settings, source, inputs)
    import coremltools  # takes seconds: after what is more likely to fail

    made = coremltools.convert(
        with_defaults(program.run_decompositions({})),
        convert_to="mlprogram",
        minimum_deployment_target=getattr(coremltools.target, settings["minimum_deployment_target"]),
        compute_precision=getattr(coremltools.precision, settings["precision"].upper()),
        inputs=[_type(coremltools, tensor, settings["max_rows"]) for tensor in inputs],
        outputs=[coremltools.TensorType(name=t.name, dtype=getattr(np, t.dtype)) for t in outputs],
        skip_model_load=True,
    )
    into.mkdir()
    made.save(str(into / PACKAGE))
    # Names of operations, for a debugger; the package's list doesn't have it.
    (into / PACKAGE / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)


def with_defaults(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program with all arguments written out: torch leaves those with their default's value out, and coremltools 9
    wants some of them (`max_pool2d got 2 input(s), expected minimum 3 inputs`).
    """
    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            left_out = [a for a in node.target._schema.arguments if not a.kwarg_only][len(node.args) :]
            if all(a.has_default_value() and a.name not in node.kwargs for a in left_out):
                node.args = (*node.args, *(a.default_value for a in left_out))
    program.graph_module.recompile()
    return program


def _type(coremltools: Any, tensor: Tensor, max_rows: int) -> Any:
    shape = [coremltools.RangeDim(1, max_rows) if isinstance(size, str) else size for size in tensor.shape]
    return coremltools.TensorType(name=tensor.name, shape=tuple(shape), dtype=getattr(np, tensor.dtype))


def _program(settings: Mapping[str, Any], source: Path, inputs: Sequence[Tensor]) -> torch.export.ExportedProgram:
    path = source / settings["file"]
    if settings["module"] is None:
        return torch.export.load(path)
    network = _network(settings, source)
    network.load_state_dict(_tensors(path), strict=True)
    rows = torch.export.Dim("batch", min=1, max=settings["max_rows"])
    shapes = tuple({0: rows} if t.shape and isinstance(t.shape[0], str) else None for t in inputs)
    return torch.export.export(network.eval(), tuple(map(_example, inputs)), dynamic_shapes=shapes)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = load_file(path)
    return found


def _network(settings: Mapping[str, Any], source: Path) -> torch.nn.Module:
    """The network, of copies of the files that the spec names: what isn't named, and so not in the key, isn't there."""
    folder = Path(settings["scratch"])
    for name in (settings["module"], *settings["files"]):
        shutil.copy(source / name, folder / name)
    network: torch.nn.Module = user_class(folder / settings["module"], settings["class"])(**settings["arguments"])
    return network


def _example(tensor: Tensor) -> torch.Tensor:
    shape = [_EXAMPLE_ROWS if isinstance(size, str) else size for size in tensor.shape]
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype))


def main() -> None:
    """Do what standard input asks for."""
    asked = json.load(sys.stdin)
    with tempfile.TemporaryDirectory(prefix="mlspec-convert-") as scratch:
        make({**asked["settings"], "scratch": scratch}, Path(asked["source"]), Path(asked["into"]))


if __name__ == "__main__":
    main()
