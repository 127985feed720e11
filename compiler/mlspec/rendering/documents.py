"""Structured files, dumped from data: the same bytes for equal data, read back and compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from io import StringIO
from typing import Any

from mlspec import __version__
from mlspec.model.facts import ModelFacts
from mlspec.model.plan import PLAN_VERSION, Plan

# What YAML 1.1 and 1.2 both read as a string without quotes. `no`, `on` and `y` are booleans to some readers.
_PLAIN = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null|nan|inf)\Z)[a-z_][a-z0-9_./-]*\Z", re.IGNORECASE)


def to_json(data: Any) -> bytes:
    """Indented JSON with sorted keys and a newline at the end."""
    return (json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def to_yaml(data: Mapping[str, Any]) -> bytes:
    """YAML in the data's own order, its strings quoted wherever a reader could take them for something else.

    Raises:
        ValueError: what was written doesn't read back equal.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import SafeRepresenter

    class Quoting(SafeRepresenter):
        def represent_str(self, text: str) -> Any:
            return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if _PLAIN.match(text) else '"')

    Quoting.add_representer(str, Quoting.represent_str)
    yaml = YAML(typ="safe", pure=False)
    yaml.Representer = Quoting
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    out = StringIO()
    yaml.dump(dict(data), out)
    if YAML(typ="safe", pure=False).load(out.getvalue()) != data:
        raise ValueError("a YAML document doesn't read back equal")
    return out.getvalue().encode()


def plan_document(plan: Plan, files: Iterable[str]) -> dict[str, Any]:
    """plan.json: every decision with its reason, the bundle's files, and the block `runtime`: all that it reads."""
    metadata = plan.spec.metadata
    document = {
        "version": PLAN_VERSION,
        "compiler": __version__,
        "metadata": dict(metadata),
        "target": asdict(plan.target),
        "runner": plan.spec.runner,
        "backend": plan.spec.service.backend,
        "decisions": [asdict(decision) for decision in plan.decisions],
        "memory": asdict(plan.memory) if plan.memory else None,
        "speed": asdict(plan.speed) if plan.speed else None,
        "facts": [_facts(facts) for facts in plan.resolved.facts.models],
        "requirements": list(plan.requirements),
        "system_packages": list(plan.system_packages),
        "files": sorted(files),
        "runtime": dict(plan.runtime),
    }
    return dict(json.loads(json.dumps(document)))


def _facts(facts: ModelFacts) -> dict[str, Any]:
    return {
        "role": facts.ref.role,
        "source": facts.ref.source.key(),
        "parameter_bytes": facts.parameter_bytes,
        "details": dict(facts.details),
    }
