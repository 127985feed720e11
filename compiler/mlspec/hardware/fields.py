"""What is said of a computer, value by value, each with where that was said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlspec.hardware import named
from mlspec.hardware.profile import checked
from mlspec.hardware.tables import table
from mlspec.hardware.working_set import major
from mlspec.model.spec import MachineSpec

Fields = dict[str, tuple[Any, str]]
"""Values by their names in a spec or a profile, each with its origin."""

_GIB = 2**30
_MEASURED = ("working_set_bytes", "max_buffer_bytes", "wired_limit_mb")
_SAID = ("chip", "memory_gb", "gpu_cores", "model", "macos", "cpus", "gpu_memory_gb")


def known_of(given: MachineSpec, pointer: str, profile: Mapping[str, Any] | None) -> Fields:
    """All that is said of a target's computer: the spec's values before the profile's, and those before the product's.

    Raises:
        UnknownMachineError: the product is unknown, or the profile is none.
    """
    said = _of_spec(given, pointer)
    captured = _of_profile(given.profile or "", profile) if profile is not None else {}
    if _contradicts(said, captured):
        captured = {name: value for name, value in captured.items() if name not in _MEASURED}
    product = _of_product(given.product, _product_pointer(given, pointer)) if given.product else {}
    return with_row({**product, **captured, **said})


def with_row(known: Fields) -> Fields:
    """The values and, after them, those of the model's row in the table of Macs."""
    model = value(known, "model")
    return {**_of_row(model), **known} if model is not None and model in table("machines") else known


def value(known: Fields, name: str) -> Any:
    """A value, None if nothing is said of it."""
    return known[name][0] if name in known else None


def origin(known: Fields, name: str) -> str:
    return known[name][1] if name in known else ""


def size_bytes(gb: float | None) -> int | None:
    """Bytes of a size in GB of 2^30."""
    return None if gb is None else round(gb * _GIB)


def machine_origins(known: Fields) -> dict[str, str]:
    """Where the values came from, by the names that a Machine has for them."""
    names = {"memory_gb": "memory_bytes", "gpu_memory_gb": "gpu_memory_bytes", "reserve_gb": "reserved_bytes"}
    names |= {"gpu_cores": "chip.gpu_cores", "bandwidth_gb_s": "chip.bandwidth_gb_s"}
    kept = ("chip", "model", "product", "macos", "cpus", "cooling", *names)
    return {names.get(name, name): origin(known, name) for name in kept if name in known}


def _of_spec(given: MachineSpec, pointer: str) -> Fields:
    said: Fields = {name: (v, f"spec:{pointer}/{name}") for name in _SAID if (v := getattr(given, name)) is not None}
    if given.reserve_gb:
        said["reserve_gb"] = (given.reserve_gb, f"spec:{pointer}/reserve_gb")
    return said


def _of_profile(path: str, profile: Mapping[str, Any]) -> Fields:
    return {name: (v, f"profile:{path}") for name, v in checked(profile, path).items()}


def _contradicts(said: Fields, captured: Fields) -> bool:
    """Whether the spec speaks of another memory, chip or macOS than the profile: then what was measured is void."""
    other = any(n in said and n in captured and said[n][0] != captured[n][0] for n in ("memory_gb", "chip"))
    return other or ("macos" in said and major(value(said, "macos")) != major(value(captured, "macos")))


def _product_pointer(given: MachineSpec, pointer: str) -> str:
    """Where the product's name stands: `machine: NAME` and `machine: {product: NAME}` say the same."""
    alone = given.model_fields_set <= {"product"}
    return pointer if alone else f"{pointer}/product"


def _of_product(text: str, pointer: str) -> Fields:
    found, spec = named.find(text), f"spec:{pointer}"
    known: Fields = {"chip": (found.chip, spec)}
    if found.memory_gb:
        known["memory_gb"] = (found.memory_gb, spec)
    if len(found.models) == 1:
        known["model"] = (found.models[0], f"data:machines/{found.models[0]}")
    return {**known, **(_of_row(found.models[0]) if found.models else {})}


def _of_row(model: str) -> Fields:
    row = table("machines")[model]
    names = [name for name in ("chip", "product", "cooling") if row[name]]
    return {"row": (model, ""), **{name: (row[name], f"data:machines/{model}/{name}") for name in names}}
