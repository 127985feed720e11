"""The build side of networks of PyTorch: their facts, the plan and the requirements."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.plan import RunnerPlan
from mlspec.model.spec import Spec
from mlspec.model.target import Target
from mlspec.requirements import overridden
from mlspec.runners import RUNNER_API, Faults
from mlspec.runners.torch.inspecting import inspect
from mlspec.runners.torch.model import EXPORTED, SAFETENSORS, STATE_DICT, TorchModel, check_model
from mlspec.tensors.artifacts import ArtifactRef
from mlspec.tensors.plan import TensorModelPlan, planned
from mlspec.user_callables import check_order
from mlspec.user_code import check_name

if TYPE_CHECKING:
    from mlspec.starting.place import ModelFolder
    from mlspec.starting.recognising import NoModel
    from mlspec.starting.spec_text import FirstModel

_HERE = Path(__file__).parent
_ALONE = (
    "add the .py file with the network's class, a torch.nn.Module; the file must be a state dict: "
    "torch.save(network.state_dict(), FILE), neither TorchScript nor a network that was saved whole"
)


class TorchRunner:
    """The runner `torch`. A build copies the network's code into the bundle, never runs it, and unpickles nothing."""

    runner_api = RUNNER_API
    name = "torch"
    tasks = ("predict", "embed")
    package = "torch"
    model_type = TorchModel
    looks_for = ".safetensors or a state dict (.pt) with the .py file of a torch.nn.Module, or .pt2"

    def model_schema(self) -> Mapping[str, Any] | None:
        return None

    def check(self, model: TorchModel, faults: Faults) -> None:
        check_model(model, faults)

    def models(self, model: TorchModel) -> tuple[ModelRef, ...]:
        return (ArtifactRef("artifacts", model.artifacts, ("artifacts",), model.file),)

    def inspect(self, ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
        return inspect(ref, folder, faults)

    def believe(self, ref: ModelRef, details: Mapping[str, Any]) -> None:
        """That details from a lock are as `inspect` makes them. Raises ValueError."""
        from mlspec.runners.torch.believing import believe  # most specs have no lock

        believe(ref, details)

    def plan(self, spec: Spec, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
        return planned(self, spec, facts, target, faults)

    def plan_model(
        self, model: TorchModel, facts: Facts, target: Target, given: Mapping[str, str | None], faults: Faults
    ) -> TensorModelPlan | None:
        from mlspec.runners.torch.declared import check_use, signature_of  # only for a plan
        from mlspec.runners.torch.planning import decide

        known = facts.of("artifacts")
        if not check_use(model, known, faults):
            return None
        signature, decided = signature_of(model, known, faults), decide(model, known, target, given, faults)
        if signature is None or decided is None:
            return None
        inputs, outputs = signature
        return TensorModelPlan(
            _settings(model, known, decided.value("torch.device"), decided.value("torch.dtype")),
            inputs,
            outputs,
            decisions=decided.decisions,
            environment=decided.environment,
            system_packages=decided.system_packages,
            memory=decided.memory,
            budget_bytes=decided.budget_bytes,
        )

    def recognise(self, place: ModelFolder) -> FirstModel | NoModel | None:
        """The first spec of a folder with such a model."""
        from mlspec.starting.tensor_models import of_file, of_network, of_tensors  # only `mlspec init` asks

        network = of_network(place, self.name, "a network of PyTorch", (SAFETENSORS, *STATE_DICT), "torch")
        about = "an exported program; loading it runs what is in it, if trusted: true and its sha256 say so"
        program = network or of_file(place, self.name, about, (EXPORTED,), tells_signature=True)
        return program or of_tensors(place, STATE_DICT, _ALONE)

    def modules(self, model: TorchModel) -> tuple[str, ...]:
        return ("torch", "safetensors", "numpy")

    def requirements(self, model: TorchModel, target: Target) -> tuple[str, ...]:
        ours = (_HERE / "requirements" / f"{target.constraint_set}.txt").read_text(encoding="utf-8").splitlines()
        return overridden(ours, model.requirements)

    def runtime_files(self, model: TorchModel) -> Mapping[str, Path]:
        return {f"{self.package}/{path.name}": path for path in sorted(_HERE.glob("runtime*.py"))}

    def user_files(self, model: TorchModel) -> Mapping[Pointer, str]:
        module: dict[Pointer, str] = {} if model.module is None else {("module",): model.module}
        return {**module, **{("files", index): path for index, path in enumerate(model.files)}}

    def check_user_file(self, model: TorchModel, pointer: Pointer, file: Path, faults: Faults) -> None:
        """That the module has the class, which takes the inputs in their order. Raises OSError."""
        if pointer == ("module",) and model.class_name is not None:
            check_name(file, model.class_name, "class", ("class",), faults)
            check_order(file, model.class_name, "forward", [one.name for one in model.inputs or ()], faults)


def _settings(model: TorchModel, facts: ModelFacts, device: str, dtype: str) -> dict[str, Any]:
    """What the runtime reads; of an exported program the types that its inputs are cast to."""
    settings = {
        "file": facts.details["file"],
        "format": facts.details["format"],
        "device": device,
        "compile": model.compile,
    }
    if facts.details["format"] == "exported":
        types = [one["dtype"] for one in facts.details["signature"]["inputs"]]
        return {**settings, "sha256": model.sha256, "input_dtypes": types}
    network = {"module": str(PurePosixPath("user", model.module or "")), "class": model.class_name}
    return {**settings, **network, "arguments": model.arguments, "dtype": dtype}


PART = TorchRunner()
