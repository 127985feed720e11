"""The facts of a network: which file it is, the types and sizes of its tensors, what an exported program takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from mlspec.characters import visible
from mlspec.model.facts import ModelFacts, ModelRef
from mlspec.model_files import BadModelFileError, Tensor, fingerprint, tensors
from mlspec.pickles import refuse_pickles
from mlspec.runners import Faults
from mlspec.runners.torch.archives import UnfitFileError, program, state_dict
from mlspec.runners.torch.exported import UnknownProgramError, signature
from mlspec.runners.torch.model import EXPORTED, SAFETENSORS, STATE_DICT, SUFFIXES
from mlspec.tensors.artifacts import chosen

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32"}
_DTYPES |= {"I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64"}
_DTYPES |= {"BOOL": "bool"}


def inspect(ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
    """Read headers and listings, never weights; None after a fault was reported. `details`: `file`, `format`
    (`safetensors`, `state-dict`, `exported`), `tensors` (how many), `dtypes` (their bytes by type), and of an exported
    program its `signature`.
    """
    name = chosen(ref, folder, SUFFIXES, faults)
    if name is None or not _is_no_bare_pickle(ref, folder, name, faults):
        return None
    try:
        details, size_bytes = _read(folder / name)
        return ModelFacts(ref, fingerprint(folder, [name]), size_bytes, {"file": name, **details})
    except BadModelFileError as problem:
        help = "save or fetch the file again; the folder and the file are model.artifacts and model.file"
        faults.error("bad-model-file", f"{ref.role}: {problem}", ref.pointer, help=help)
    except UnfitFileError as problem:
        faults.error(problem.code, f"{ref.role}: {problem}", ref.pointer, help=problem.help)
    except UnknownProgramError as problem:
        help = "export it with the torch that the service has, from a network of tensors"
        faults.error("model-format", f"{ref.role}: {visible(name)}: {problem}", ref.pointer, help=help)
    return None


def _is_no_bare_pickle(ref: ModelRef, folder: Path, name: str, faults: Faults) -> bool:
    """Of torch's own archives the pickles are looked into (`archives`); a tensor file has none."""
    help = 'save the tensors: safetensors.torch.save_file(network.state_dict(), "model.safetensors")'
    return not name.endswith(SAFETENSORS) or refuse_pickles(ref, folder, [name], faults, help)


def _read(path: Path) -> tuple[dict[str, Any], int]:
    """What the file says of itself, and the bytes of its tensors."""
    suffix = PurePosixPath(path.name).suffix
    if suffix == SAFETENSORS:
        return _of_tensors("safetensors", tensors(path).values())
    if suffix in STATE_DICT:
        return _of_tensors("state-dict", state_dict(path).values())
    if suffix == EXPORTED:
        found = program(path)
        details = {"format": "exported", "signature": signature(found.description)}
        return details, found.size_bytes
    raise BadModelFileError(f"{visible(path.name)}: is no file of torch")


def _of_tensors(format: str, found: Iterable[Tensor]) -> tuple[dict[str, Any], int]:
    sizes: Counter[str] = Counter()
    count = 0
    for tensor in found:
        sizes[_DTYPES.get(tensor.dtype, tensor.dtype.lower())] += tensor.size_bytes
        count += 1
    return {"format": format, "tensors": count, "dtypes": dict(sorted(sizes.items()))}, sizes.total()
