"""Models in folders, inspected as a build inspects them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facts.sparse_model import write_file, write_model
from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.spec import Source
from mlspec.runners.mlx_lm.facts import inspect_adapter, inspect_base
from mlspec.runners.mlx_lm.facts.fit import check_fit
from mlspec.runners.mlx_lm.model import Adapter, MlxLmModel

Shapes = Iterable[tuple[str, tuple[str, tuple[int, ...]]]]


@dataclass
class Heard:
    """Faults that were reported: severity, code, message and pointer of each."""

    all: list[tuple[str, str, str, Pointer]] = field(default_factory=list)

    def error(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        assert help
        self.all.append(("error", code, message, pointer))

    def warning(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        assert help
        self.all.append(("warning", code, message, pointer))

    def of_service(self) -> Heard:
        return self


def base(folder: Path, config: Mapping[str, Any], tensors: Shapes, shards: int = 1) -> tuple[ModelFacts | None, Heard]:
    """A base model of these tensors, written and inspected."""
    write_model(folder, config, tensors, shards)
    heard = Heard()
    return inspect_base(ModelRef("base", Source(path="x"), ("base",)), folder, heard), heard


def adapter(folder: Path, config: Mapping[str, Any], tensors: Shapes) -> ModelFacts:
    """An adapter named `a` of these tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "adapters.safetensors", dict(tensors))
    (folder / "adapter_config.json").write_text(json.dumps(config))
    heard = Heard()
    facts = inspect_adapter(ModelRef("adapters/a", Source(path="y"), ("adapters", 0)), folder, heard)
    assert facts is not None, heard.all
    return facts


def misfit(base: ModelFacts, adapter: ModelFacts, source: Source | None = None) -> str | None:
    """Why the adapter doesn't fit the base; None if it does."""
    model = MlxLmModel.model_construct(
        runner="mlx-lm", base=source or Source(path="x"), adapters=(Adapter(name="a", path="y"),)
    )
    heard = Heard()
    fits = check_fit(model, Facts((base, adapter)), heard)
    assert fits == (not heard.all)
    if fits:
        return None
    ((severity, code, message, pointer),) = heard.all
    assert (severity, code, pointer) == ("error", "adapter-misfit", ("adapters", 0))
    assert message.startswith("'a' doesn't fit the base: ")
    return message.removeprefix("'a' doesn't fit the base: ")
