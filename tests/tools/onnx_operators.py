"""Write the operators that onnxruntime has of ONNX's own domain, each with the first operator set that has it:
`python tests/tools/onnx_operators.py [--check]`. Run it where the newest pinned onnxruntime is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

FILE = Path(__file__).resolve().parents[2] / "compiler/mlspec/runners/onnx/data/operators.txt"


def first_versions() -> dict[str, int]:
    """Those that only onnxruntime has in this domain, too: exporters of Microsoft's write them."""
    found: dict[str, int] = {}
    for schema in get_all_operator_schema():
        if schema.domain == "":
            found[schema.name] = min(schema.since_version, found.get(schema.name, schema.since_version))
    return found


def main() -> int:
    text = "".join(f"{name} {version}\n" for name, version in sorted(first_versions().items()))
    if "--check" in sys.argv:
        return int(not FILE.exists() or FILE.read_text(encoding="utf-8") != text)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
