"""The build side of MLX language models: their facts, the plan and the requirements."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.plan import Derivation, RunnerPlan
from mlspec.model.spec import Spec
from mlspec.model.target import Target
from mlspec.runners import RUNNER_API, Faults
from mlspec.runners.mlx_lm.facts import inspect_adapter, inspect_base
from mlspec.runners.mlx_lm.facts.fit import check_fit
from mlspec.runners.mlx_lm.model import MlxLmModel, check_model
from mlspec.runners.mlx_lm.planning import plan_model
from mlspec.runners.mlx_lm.planning.deriving import derive
from mlspec.runners.mlx_lm.planning.options import check_quantization

if TYPE_CHECKING:
    from mlspec.starting.place import ModelFolder
    from mlspec.starting.recognising import NoModel
    from mlspec.starting.spec_text import FirstModel

_HERE = Path(__file__).parent

_ADAPTERS = "adapters/"


class MlxLmRunner:
    """The runner `mlx-lm`; as `lora` it asks for an adapter."""

    runner_api = RUNNER_API
    tasks = ("generate",)
    package = "mlx_lm"
    model_type = MlxLmModel

    def __init__(self, name: str = "mlx-lm", *, needs_adapter: bool = False) -> None:
        self.name = name
        self._needs_adapter = needs_adapter
        self.looks_for = "adapter_config.json" if needs_adapter else "config.json with model.safetensors"

    def model_schema(self) -> Mapping[str, Any] | None:
        return None

    def check(self, model: MlxLmModel, faults: Faults) -> None:
        check_model(model, faults, needs_adapter=self._needs_adapter)

    def models(self, model: MlxLmModel) -> tuple[ModelRef, ...]:
        adapters = (
            ModelRef(_ADAPTERS + adapter.name, adapter, ("adapters", index))
            for index, adapter in enumerate(model.adapters)
        )
        return (ModelRef("base", model.base, ("base",)), *adapters)

    def inspect(self, ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
        inspect = inspect_adapter if ref.role.startswith(_ADAPTERS) else inspect_base
        return inspect(ref, folder, faults)

    def believe(self, ref: ModelRef, details: Mapping[str, Any]) -> None:
        """That details from a lock are as `inspect` makes them. Raises ValueError."""
        from mlspec.runners.mlx_lm.facts.believing import check_adapter, check_base  # most specs have no lock

        (check_adapter if ref.role.startswith(_ADAPTERS) else check_base)(details)

    def plan(self, spec: Spec, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
        checks = (_of_kinds_that_go_together, check_quantization, check_fit)
        passed = [check(spec.model, facts, faults) for check in checks]
        if not all(passed):
            return None
        return plan_model(spec, facts, target, faults)

    def derive(self, derivation: Derivation, source: Path, into: Path) -> None:
        """Make the model of a plan's derivation from the folder `source`. Raises CommandError."""
        derive(derivation.settings, source, into)

    def recognise(self, place: ModelFolder) -> FirstModel | NoModel | None:
        """The first spec of a folder that holds a language model, or an adapter of one."""
        from mlspec.runners.mlx_lm import starting  # only `mlspec init` asks

        adapter = starting.recognise_adapter(place, self.name)
        return adapter if adapter or self._needs_adapter else starting.recognise_model(place)

    def to_fill_in(self) -> FirstModel:
        """A first spec for a folder that the user writes into it."""
        from mlspec.runners.mlx_lm import starting  # only `mlspec init` asks

        return starting.to_fill_in()

    def modules(self, model: MlxLmModel) -> tuple[str, ...]:
        return ("mlx", "mlx_lm")

    def requirements(self, model: MlxLmModel, target: Target) -> tuple[str, ...]:
        lines = (_HERE / "requirements" / f"{target.constraint_set}.txt").read_text(encoding="utf-8")
        return tuple(lines.splitlines())

    def runtime_files(self, model: MlxLmModel) -> Mapping[str, Path]:
        return {f"{self.package}/{path.name}": path for path in sorted(_HERE.glob("runtime*.py"))}

    def user_files(self, model: MlxLmModel) -> Mapping[Pointer, str]:
        return {} if model.chat_template is None else {("chat_template",): model.chat_template}

    def check_user_file(self, model: MlxLmModel, pointer: Pointer, file: Path, faults: Faults) -> None:
        """That a chat template can be used. Raises OSError."""
        from mlspec.runners.mlx_lm.chat_template import check_chat_template  # most specs have none

        check_chat_template(pointer, file, faults)


def _of_kinds_that_go_together(model: MlxLmModel, facts: Facts, faults: Faults) -> bool:
    """Whole fine-tunes take the place of the base's tensors, low-rank adapters lie beside them."""
    kinds = [facts.of(_ADAPTERS + adapter.name).details["fine_tune_type"] for adapter in model.adapters]
    strange = next((index for index, kind in enumerate(kinds) if (kind == "full") != (kinds[0] == "full")), None)
    if strange is None:
        return True
    first, other = model.adapters[0].name, model.adapters[strange].name
    message = f"'{other}' is an adapter of kind {kinds[strange]}, '{first}' of kind {kinds[0]}: no service has both"
    faults.error("model-format", message, ("adapters", strange), help="give whole fine-tunes a service of their own")
    return False


PART = MlxLmRunner()
