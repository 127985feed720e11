"""`mlspec machine`: capture this Mac's profile or one from recorded output, list known Macs, show one."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlspec.commands import surroundings, tell
from mlspec.commands.columns import aligned
from mlspec.commands.machine_capture import capture
from mlspec.commands.machine_usage import check_usage
from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.exit_codes import FINDINGS, OK
from mlspec.hardware import named
from mlspec.hardware.errors import UnknownMachineError
from mlspec.hardware.machines import Found, linux, mac
from mlspec.hardware.tables import row_of, table
from mlspec.model.machine import Machine
from mlspec.model.spec import MachineSpec

_GIB = 2**30
_FILE = re.compile(r"[/\\]|\.ya?ml$")


def run(options: Namespace) -> int:
    check_usage(options)
    try:
        if options.action == "capture":
            return capture(options, surroundings(options))
        return _list(options) if options.action == "list" else _show(options)
    except UnknownMachineError as problem:
        raise CommandError("unknown-machine", str(problem), problem.help) from problem


def _list(options: Namespace) -> int:
    rows = _sold()
    if options.output_format == "json":
        print(json.dumps(rows, indent=2))
        return OK
    lines = [(row["product"], _short(row["chip"]), _sizes(row["memory_gb"]), row["cooling"]) for row in rows]
    print("\n".join(aligned([("PRODUCT", "CHIP", "MEMORY, GB", "COOLING"), *lines])))
    last = rows[-1]
    print(f"\nin a spec: machine: {last['product']}, {_short(last['chip'])}, {last['memory_gb'][-1]} GB")
    return OK


def _sold() -> list[dict[str, Any]]:
    """Each product with each of its chips, once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for model, row in table("machines").items():
        if row["chip"]:
            sizes = named.sold_memory(row["chip"], model)
            kept = {key: row[key] for key in ("product", "chip", "cooling", "confidence")}
            found.setdefault((row["product"], row["chip"]), {**kept, "memory_gb": sizes})
    return list(found.values())


def _short(chip: str) -> str:
    return chip.removeprefix("Apple ")


def _sizes(sizes_gb: list[int]) -> str:
    return " ".join(map(str, sizes_gb))


def _show(options: Namespace) -> int:
    found = _found(options)
    if found is None:
        return FINDINGS
    if options.output_format == "json":
        print(json.dumps({"title": found.machine.title, **asdict(found.machine), "warnings": found.warnings}, indent=2))
        return OK
    print(found.machine.title)
    print("\n".join("  " + line for line in aligned(_rows(found.machine))))
    for warning in found.warnings:
        print(f"  warning: {warning}")
    return OK


def _found(options: Namespace) -> Found | None:
    """The machine that is named, or this computer; None after a profile's faults were printed."""
    if options.name is None:
        from mlspec.hardware.detect import this_computer

        return this_computer()
    if _FILE.search(options.name) or Path(options.name).is_file():
        return _of_profile(Path(options.name), options)
    return mac(MachineSpec(product=options.name), "", None)


def _of_profile(path: Path, options: Namespace) -> Found | None:
    from mlspec.passes.load import load
    from mlspec.passes.validate import validate_profile

    shown, report = surroundings(options).shown(path.absolute()), Report()
    document = load(path.absolute(), shown, report)
    profile = validate_profile(document, report) if document else None
    if profile is None:
        tell(report, options, to_stdout=False)
        return None
    return (mac if "chip" in profile or "model" in profile else linux)(MachineSpec(profile=shown), "", profile)


def _rows(machine: Machine) -> list[tuple[str, str, str]]:
    shown = {key: text for key, text in _values(machine).items() if text}
    return [(key, text, _from(machine.origins.get(_FIELDS.get(key, key), ""))) for key, text in shown.items()]


_FIELDS = {
    "GPU cores": "chip.gpu_cores",
    "bandwidth": "chip.bandwidth_gb_s",
    "memory": "memory_bytes",
    "working set": "working_set_bytes",
    "GPU memory": "gpu_memory_bytes",
    "reserved": "reserved_bytes",
    "macOS": "macos",
    "CPU cores": "cpus",
}
"""What people call the fields of a Machine."""


def _values(machine: Machine) -> dict[str, str]:
    chip = machine.chip
    return {
        "product": machine.product or "",
        "model": machine.model or "",
        "chip": chip.name if chip else "",
        "GPU cores": str(chip.gpu_cores) if chip else "",
        "bandwidth": f"{chip.bandwidth_gb_s:g} GB/s" if chip else "",
        "CPU cores": str(machine.cpus or ""),
        "memory": _gib(machine.memory_bytes),
        "working set": _gib(machine.working_set_bytes),
        "GPU memory": _gib(machine.gpu_memory_bytes),
        "reserved": _gib(machine.reserved_bytes),
        "macOS": machine.macos or ("not given" if chip else ""),
        "cooling": machine.cooling,
    }


def _gib(size_bytes: int | None) -> str:
    return f"{size_bytes / _GIB:.1f} GiB" if size_bytes else ""


def _from(origin: str) -> str:
    """Where a value is from, for people: a row with its confidence, a file, a command."""
    kind, _, path = origin.partition(":")
    if kind == "spec":
        return "as named"
    row = row_of(origin)
    return f"{path} ({row['confidence']})" if row else path
