"""The build side of the runner `torch`, without torch: what is read of its files, what is decided, what is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import torch_files as files
from mlspec import pipeline
from mlspec.diagnostics import Diagnostic, Report
from mlspec.requirements import cpu_builds
from mlspec.runners.torch.archives import UnfitFileError, state_dict
from mlspec.runners.torch.exported import UnknownProgramError, signature
from mlspec.runners.torch.pickled_names import NotTensorsError
from mlspec.runners.torch.pickled_tensors import tensors_of
from projects import built, example, surroundings, with_spec

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: net, project: p}
model:
  runner: torch
  artifacts: {path: model}
MORE
targets: [TARGET]
"""
NETWORK = """\
  module: net.py
  class: Net
  inputs: [{name: image, dtype: float32, shape: [batch, 1, 8, 8]}]
  outputs: [{name: scores, dtype: float32, shape: [batch, 10]}]
"""
LINUX = "{name: here, platform: linux, machine: {memory_gb: 8, cpus: 4}}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a network's class, and a folder for its file."""
    place = tmp_path / "project"
    (place / "model").mkdir(parents=True)
    (place / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\n")
    (place / "net.py").write_text("raise SystemExit('a build ran this')\n\nclass Net: ...\n")
    return place


def spec_of(project: Path, more: str = NETWORK, target: str = LINUX) -> Path:
    return with_spec(project, SPEC.replace("MORE\n", more).replace("TARGET", target))


def plan_of(project: Path, more: str = NETWORK, target: str = LINUX) -> dict[str, Any]:
    found = built(project, spec_of(project, more, target))
    plan: dict[str, Any] = json.loads(next(text for name, text in found.items() if name.endswith("plan.json")))
    return plan


def faults(project: Path, more: str = NETWORK, target: str = LINUX) -> list[Diagnostic]:
    report = Report()
    pipeline.check([spec_of(project, more, target)], surroundings(project), report)
    return list(report)


def settings(plan: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = plan["runtime"]["runner"]["settings"]
    return found


def value(plan: dict[str, Any], key: str) -> Any:
    return next(decision["value"] for decision in plan["decisions"] if decision["key"] == key)


def weights(project: Path, **storages: str) -> Path:
    entries = {name: files.tensor([2, 3], storage) for name, storage in storages.items()}
    return files.saved(project / "model" / "net.pt", files.pickle_of(entries))


def test_the_example_is_planned_for_a_mac_and_for_linux(tmp_path: Path) -> None:
    project = example(tmp_path / "project")
    found = built(project, project / "specs/digits.yaml")
    mac, linux = (json.loads(found[f"example/digits/{target}/plan.json"]) for target in ("mac", "linux"))
    assert [(value(p, "torch.device"), value(p, "torch.dtype")) for p in (mac, linux)] == [
        ("mps", "float16"),
        ("cpu", "float32"),
    ]
    assert {"PYTORCH_MPS_HIGH_WATERMARK_RATIO", "PYTORCH_MPS_LOW_WATERMARK_RATIO"} <= set(
        mac["runtime"]["environment"]["set"]
    )
    assert settings(linux)["model"] == {
        "file": "digits.safetensors",
        "format": "safetensors",
        "device": "cpu",
        "compile": False,
        "module": "user/specs/models/digits/net.py",
        "class": "Net",
        "arguments": {"classes": 10},
        "dtype": "float32",
    }
    shipped = project / "specs/models/digits"
    assert found["example/digits/linux/user/specs/models/digits/net.py"] == (shipped / "net.py").read_bytes()
    parts = {part["name"]: part["bytes"] for part in linux["memory"]["parts"]}
    data_bytes = (shipped / "digits.safetensors").stat().st_size
    assert 0 < data_bytes - parts["weights"] < 1000, "the header is no weight"


def test_a_build_imports_no_torch(tmp_path: Path) -> None:
    project = example(tmp_path / "project")
    built(project, project / "specs/digits.yaml")
    assert "torch" not in sys.modules


def test_a_cpu_gets_the_build_for_a_cpu(tmp_path: Path) -> None:
    project = example(tmp_path / "project")
    found = built(project, project / "specs/digits.yaml")
    requirements = found["example/digits/linux/requirements.txt"].decode().splitlines()
    assert "torch==2.13.0" in requirements
    image, readme = (found[f"example/digits/linux/{name}"].decode() for name in ("Dockerfile", "README.md"))
    index = "https://download.pytorch.org/whl/cpu"
    assert f"ARG CPU_INDEX={index}\n" in image
    assert 'PIP_INDEX_URL="$CPU_INDEX" pip' in image
    assert f"pip install --no-deps --index-url {index} torch==2.13.0\n" in readme
    others = [name for name, text in found.items() if b"download.pytorch.org" in text]
    assert sorted(others) == ["example/digits/linux/Dockerfile", "example/digits/linux/README.md"]


def test_only_torchs_own_packages_have_builds_for_a_cpu() -> None:
    lines = [
        "numpy==2.4.6",
        "torch==2.13.0 ; python_version < '3.12'",
        "torchdata==0.11.0",
        "Torch_Vision==1",
        "torchvision==0.28.0",
    ]
    assert cpu_builds(lines, "linux-cpu") == ("torch==2.13.0", "torchvision==0.28.0")
    assert cpu_builds(lines, "linux-cuda13") == cpu_builds(lines, "macos") == ()


def test_a_state_dict_is_read_by_its_opcodes(project: Path) -> None:
    weights(project, a="Float", b="Half", counted="Long")
    plan = plan_of(project, NETWORK + "  dtype: float16\n")
    assert settings(plan)["model"]["format"] == "state-dict"
    parts = {part["name"]: part["bytes"] for part in plan["memory"]["parts"]}
    assert parts["weights"] == 6 * 2 + 6 * 2 + 6 * 8
    assert parts["weights"] + parts["loading"] == 6 * 4 + 6 * 4 + 6 * 8
    (model,) = plan["runtime"]["models"]
    content = (project / "model/net.pt").read_bytes()
    assert [(file["path"], file["sha256"]) for file in model["files"]] == [
        ("net.pt", hashlib.sha256(content).hexdigest())
    ]


def test_its_shapes_are_told() -> None:
    found = tensors_of(files.pickle_of({"w": files.tensor([4, 5], "BFloat16"), "scalar": files.tensor([], "Bool")}))
    assert {name: (one.dtype, one.shape, one.size_bytes) for name, one in found.items()} == {
        "w": ("bfloat16", (4, 5), 40),
        "scalar": ("bool", (), 1),
    }


class Payload:
    """Something that would run a command as it is loaded."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, (self._command,)


PAYLOADS: dict[str, Callable[[str], bytes]] = {
    "system": files.running,
    **{f"protocol {n}": lambda command, n=n: pickle.dumps(Payload(command), n) for n in range(6)},  # type: ignore[misc]
    "beside tensors": lambda command: files.pickle_of(
        {"w": files.tensor([2]), "x": files.running(command).removeprefix(b"\x80\x02").removesuffix(b".")}
    ),
    "a class": lambda command: b"\x80\x02c__main__\nNet\n)\x81.",
    "an instance": lambda command: b"\x80\x02(i__main__\nNet\n.",
    "getattr": lambda command: b"\x80\x02cbuiltins\ngetattr\n(X\x01\x00\x00\x00aX\x01\x00\x00\x00btR.",
    "a registered class": lambda command: b"\x80\x02\x82\x01.",
    "torch's own load": lambda command: b"\x80\x02ctorch\nload\n(" + files.text(command) + b"tR.",
    "what ends with Storage": lambda command: b"\x80\x02cevil\nFloatStorage\n)R.",
}


@pytest.mark.parametrize("make", PAYLOADS.values(), ids=PAYLOADS)
@pytest.mark.parametrize("name", ["net.pt", "net.pth"])
def test_a_payload_is_refused_and_never_runs(project: Path, make: Callable[[str], bytes], name: str) -> None:
    canary = project / "canary"
    files.saved(project / "model" / name, make(f"touch {canary}"))
    (fault,) = faults(project)
    assert (fault.code, fault.severity) == ("pickle", "error")
    assert "would import" in fault.message or "opcode" in fault.message or "protocol" in fault.message
    assert "torch.save(network.state_dict()" in fault.help
    assert not canary.exists()


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.pt2", "net.safetensors"])
@pytest.mark.parametrize("make", [files.running, lambda command: pickle.dumps(Payload(command))], ids=["2", "4"])
def test_a_bare_pickle_is_refused_whatever_it_is_called(project: Path, make: Callable[[str], bytes], name: str) -> None:
    canary = project / "canary"
    (project / "model" / name).write_bytes(make(f"touch {canary}"))
    (fault,) = faults(project)
    assert fault.code == "pickle"
    assert fault.help
    assert not canary.exists()


def test_the_payloads_do_run_where_they_are_loaded(tmp_path: Path) -> None:
    """Else the tests above would show nothing."""
    for at, make in enumerate((PAYLOADS["system"], PAYLOADS["protocol 4"])):
        pickle.loads(make(f"touch {tmp_path}/{at}"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (files.pickle_of({"model": b"}", "epoch": files.number(3)}), "'model', 'epoch'"),
        (b"\x80\x02" + files.tensor([2]) + b".", "a single tensor"),
        (b"\x80\x02K\x01.", "no dictionary"),
        (files.pickle_of({}), "no state dict"),
        (files.pickle_of({"w": files.tensor([2], "Quantized")}), "type"),
        (files.pickle_of({"w": files.tensor([2])})[:-5], "broken"),
        (files.pickle_of({"w": files.tensor([-2])}), "broken"),
        (b"\x80\x02" + b"(" * 100_000 + b"t" * 100_001 + b".", "broken"),
        (b"\x80\x02}}}ss.", "broken"),
        (b"\x80\x02h\x07.", "broken"),
        (b"", "broken"),
    ],
    ids=range(11),
)
def test_what_is_no_state_dict_is_named(project: Path, content: bytes, told: str) -> None:
    files.saved(project / "model/net.pt", content)
    (fault,) = faults(project)
    assert fault.code == "model-format"
    assert told in fault.message


def test_a_deep_pickle_ends_in_a_fault() -> None:
    with pytest.raises(NotTensorsError):
        tensors_of(b"\x80\x02" + b")" + b"\x85" * 1_000_000 + b".")


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"data.pkl": files.pickle_of({"w": files.tensor([2])}), "constants.pkl": b"\x80\x02)."}, "TorchScript"),
        ({"data.pkl": files.pickle_of({"w": files.tensor([2])}), "code/net.py": b""}, "TorchScript"),
    ],
)
def test_torchscript_is_refused_with_the_remedy(project: Path, entries: dict[str, bytes], told: str) -> None:
    files.archive(project / "model/net.pt", entries)
    (fault,) = faults(project)
    assert fault.code == "model-format"
    assert told in fault.message
    assert "torch.export.save" in fault.help


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def _other_zip(path: Path) -> None:
    files.archive(path, {"word/document.xml": b"<x/>"})


def _packed(path: Path) -> None:
    entries = {"data.pkl": files.pickle_of({"w": files.tensor([2])}), "data/0": b"\0" * 1_000_000}
    files.archive(path, entries, compression=zipfile.ZIP_DEFLATED)


def _damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("spoil", [_cut, _other_zip, _packed, _damaged, lambda path: path.write_bytes(b"PK\3\4")])
def test_a_broken_file_is_a_fault(project: Path, spoil: Callable[[Path], object]) -> None:
    spoil(weights(project, w="Float"))
    (fault,) = faults(project)
    assert fault.code == "bad-model-file"
    assert "net.pt" in fault.message


def test_a_file_that_the_spec_names_must_be_there(project: Path) -> None:
    (fault,) = faults(project, NETWORK + "  file: other.pt\n")
    assert (fault.code, fault.message) == ("bad-model-file", "artifacts: other.pt: is missing")


def test_of_several_files_the_spec_says_which(project: Path) -> None:
    weights(project, w="Float")
    files.exported(project / "model/net.pt2")
    (fault,) = faults(project)
    assert fault.code == "model-format"
    assert "'net.pt' and 'net.pt2'" in fault.message
    assert settings(plan_of(project, NETWORK + "  file: net.pt\n"))["model"]["file"] == "net.pt"


@pytest.mark.parametrize(
    ("without", "told"),
    [("module", "class"), ("inputs", "inputs"), ("outputs", "outputs")],
)
def test_tensors_alone_need_the_class_and_its_signature(project: Path, without: str, told: str) -> None:
    weights(project, w="Float")
    lines = [line for line in NETWORK.splitlines(keepends=True) if f"  {without}" not in line]
    if without == "module":
        lines = [line for line in lines if "class" not in line]
    (fault,) = faults(project, "".join(lines))
    assert fault.code == "missing-key"
    assert told in fault.message + fault.help


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trust(path: Path) -> str:
    return f"  trusted: true\n  sha256: {digest(path)}\n"


def test_a_program_wants_trust_and_tells_how(project: Path) -> None:
    path = files.exported(project / "model/net.pt2")
    for more in ("", f"  sha256: {digest(path)}\n"):
        (fault,) = faults(project, more)
        assert fault.code == "untrusted-model"
        assert f"trusted: true and sha256: {digest(path)}" in fault.help


def test_another_program_than_the_trusted_one_is_refused(project: Path) -> None:
    path = files.exported(project / "model/net.pt2")
    more = trust(path)
    files.exported(path, {**files.described(), "torch_version": "evil"})
    (fault,) = faults(project, more)
    assert fault.code == "untrusted-model"
    assert digest(path) in fault.message


def test_a_trusted_program_tells_its_own_signature(project: Path) -> None:
    path = files.exported(project / "model/net.pt2")
    plan = plan_of(project, trust(path))
    assert settings(plan)["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}]
    assert settings(plan)["outputs"] == [{"name": "output", "dtype": "float32", "shape": ["batch", 10]}]
    assert settings(plan)["model"] == {
        "file": "net.pt2",
        "format": "exported",
        "device": "cpu",
        "compile": False,
        "sha256": digest(path),
        "input_dtypes": ["float32"],
    }
    assert value(plan, "torch.dtype") == "as exported"
    assert {part["name"]: part["bytes"] for part in plan["memory"]["parts"]}["weights"] == 40


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ("[{name: image, dtype: float32, shape: [batch, 8, 8]}]", "float32[batch, 1, 8, 8]"),
        ("[{name: image, dtype: int64, shape: [batch, 1, 8, 8]}]", "float32[batch, 1, 8, 8]"),
        ("[{name: image, dtype: float32, shape: [batch, 3, 8, 8]}]", "float32[batch, 1, 8, 8]"),
        ("[{name: a, shape: [batch]}, {name: b, shape: [batch]}]", "2 inputs are declared, and the program has 1"),
    ],
)
def test_a_wrong_declaration_is_found(project: Path, declared: str, told: str) -> None:
    path = files.exported(project / "model/net.pt2")
    (fault,) = faults(project, trust(path) + f"  inputs: {declared}\n")
    assert fault.code == "wrong-signature"
    assert told in fault.message


def test_a_right_declaration_stands(project: Path) -> None:
    path = files.exported(project / "model/net.pt2")
    declared = "  inputs: [{name: pixels, dtype: float64, shape: [4, 1, 8, 8], maximum: 1}]\n"
    plan = plan_of(project, trust(path) + declared)
    assert settings(plan)["inputs"] == [{"name": "pixels", "dtype": "float64", "shape": [4, 1, 8, 8], "maximum": 1.0}]


@pytest.mark.parametrize("more", ["  dtype: float16\n", "  arguments: {n: 1}\n", "  module: net.py\n  class: Net\n"])
def test_a_program_takes_no_class_and_no_dtype(project: Path, more: str) -> None:
    path = files.exported(project / "model/net.pt2")
    (fault,) = faults(project, trust(path) + more)
    assert fault.code == "unknown-key"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema_version": {"major": 9}}, "version 9"),
        ({"graph_module": {}}, "isn't as torch writes it"),
        ({"graph_module": []}, "isn't as torch writes it"),
        ({"schema_version": None}, "isn't as torch writes it"),
    ],
)
def test_a_program_of_another_kind_is_told(project: Path, change: dict[str, Any], told: str) -> None:
    path = files.exported(project / "model/net.pt2", files.described(**change))
    (fault,) = faults(project, trust(path))
    assert fault.code == "model-format"
    assert told in fault.message


def test_sizes_that_are_open_have_names_of_their_own() -> None:
    description = files.described()
    description["graph_module"]["graph"]["tensor_values"] = {
        "image": files.value(7, "s1", "s2", "s2"),
        "linear": files.value(13, "s1", "2*s2"),
    }
    assert signature(description) == {
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", "size_1", "size_1"]}],
        "outputs": [{"name": "output", "dtype": "bfloat16", "shape": ["batch", "size_2"]}],
    }


def test_a_program_that_takes_no_tensor_is_told() -> None:
    description = files.described()
    description["graph_module"]["signature"]["input_specs"] = [{"user_input": {"arg": {"as_int": 3}}}]
    with pytest.raises(UnknownProgramError, match="takes something else than tensors"):
        signature(description)


@pytest.mark.parametrize(
    ("device", "target", "fits"),
    [
        ("mps", "{name: t, platform: macos}", True),
        ("cpu", "{name: t, platform: macos}", True),
        ("cuda", "{name: t, platform: macos}", False),
        ("mps", "{name: t, platform: linux}", False),
        ("cuda", "{name: t, platform: linux}", False),
        ("cuda", "{name: t, platform: linux, accelerator: cuda13}", True),
        ("cpu", "{name: t, platform: linux, accelerator: cuda12}", True),
    ],
)
def test_a_device_that_the_target_has_not_is_a_fault(project: Path, device: str, target: str, fits: bool) -> None:
    weights(project, w="Float")
    more = NETWORK + f"  device: {device}\n"
    if fits:
        plan = plan_of(project, more, target)
        assert value(plan, "torch.device") == settings(plan)["model"]["device"] == device
        assert ("PYTORCH_MPS_HIGH_WATERMARK_RATIO" in plan["runtime"]["environment"]["set"]) == (device == "mps")
        return
    (fault,) = faults(project, more, target)
    assert fault.code == "target-mismatch"
    assert f"has no {device}" in fault.message


@pytest.mark.parametrize(
    ("target", "device", "dtype"),
    [
        ("{name: t, platform: macos, machine: {chip: Apple M1, memory_gb: 16}}", "mps", "float16"),
        ("{name: t, platform: macos, machine: {chip: Apple M3, memory_gb: 16, macos: '26.1'}}", "mps", "bfloat16"),
        ("{name: t, platform: linux, accelerator: cuda13}", "cuda", "bfloat16"),
        (LINUX, "cpu", "float32"),
    ],
)
def test_device_and_dtype_follow_from_the_target(project: Path, target: str, device: str, dtype: str) -> None:
    weights(project, w="Float")
    plan = plan_of(project, NETWORK, target)
    own = settings(plan)["model"]
    assert (own["device"], own["dtype"]) == (device, dtype)
    told = plan["runtime"]["environment"]["set"]
    assert not {"MLSPEC_TORCH_DEVICE", "MLSPEC_TORCH_DTYPE"} & set(told), "for classes of runner python"


def test_what_does_not_fit_is_refused_with_its_sum(project: Path) -> None:
    entries = {"w": files.tensor([40_000, 40_000])}
    files.saved(project / "model/net.pt", files.pickle_of(entries))
    (fault,) = faults(project, NETWORK, "{name: t, platform: linux, machine: {memory_gb: 4, cpus: 2}}")
    assert fault.code == "does-not-fit"
    assert "needs 6.3 GiB = 6.0 GiB weights + 0.3 GiB torch; this machine allows 4.0 GiB" in fault.message


def test_compiling_wants_a_compiler_in_the_image(project: Path) -> None:
    weights(project, w="Float")
    plan = plan_of(project, NETWORK + "  compile: true\n")
    assert settings(plan)["model"]["compile"] is True
    image = (project / "build/p/net/here/Dockerfile").read_text()
    assert "g++" in image
    assert "g++" not in (project / "build/p/net/here/requirements.txt").read_text()


def test_a_lock_of_another_file_is_of_no_use(project: Path) -> None:
    from mlspec.runners.torch.build import PART

    (ref,) = PART.models(
        PART.model_type.model_validate({"runner": "torch", "artifacts": {"path": "m"}, "file": "a.pt"})
    )
    details = {"file": "a.pt", "format": "state-dict", "tensors": 1, "dtypes": {"float32": 4}}
    PART.believe(ref, details)
    for change in ({"file": "b.pt"}, {"format": "pickle"}, {"dtypes": {"float32": -1}}, {"dtypes": 3}, {"file": 3}):
        with pytest.raises(ValueError, match=r"."):
            PART.believe(ref, {**details, **change})


def test_a_program_in_a_lock_has_its_signature(project: Path) -> None:
    from mlspec.runners.torch.build import PART

    (ref,) = PART.models(PART.model_type.model_validate({"runner": "torch", "artifacts": {"path": "m"}}))
    details: dict[str, Any] = {"file": "a.pt2", "format": "exported", "signature": signature(files.described())}
    PART.believe(ref, details)
    for wrong in (None, {"inputs": []}, {"inputs": [{"name": 3}], "outputs": []}, {"inputs": [1], "outputs": []}):
        with pytest.raises(ValueError, match=r"."):
            PART.believe(ref, {**details, "signature": wrong})


def test_state_dict_says_what_it_refused(tmp_path: Path) -> None:
    path = files.saved(tmp_path / "net.pt", files.running("true"))
    with pytest.raises(UnfitFileError, match=r"it would import posix\.system"):
        state_dict(path)


@pytest.mark.parametrize("trusted", ["", "  trusted: true\n"])
def test_a_digest_of_a_state_dict_is_compared(project: Path, trusted: str) -> None:
    path = weights(project, w="Float")
    assert faults(project, f"{NETWORK}{trusted}  sha256: {digest(path)}\n") == []
    (fault,) = faults(project, f"{NETWORK}{trusted}  sha256: {'a' * 64}\n")
    assert (fault.code, digest(path) in fault.message) == ("untrusted-model", True)


TWO = NETWORK.replace("{name: image", "{name: mask, dtype: float32, shape: [batch]}, {name: image")


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("class Net:\n    def forward(self, image, mask): ...", ["wrong-signature"]),
        ("class Base:\n    def forward(self, image, mask): ...\nclass Net(Base): ...", ["wrong-signature"]),
        ("class Net:\n    def forward(self, mask, scale, image): ...", ["wrong-signature"]),
        ("class Net:\n    def forward(self, mask, image, scale=1): ...", []),
        ("class Net:\n    def forward(self, a, b): ...", []),
        ("class Net:\n    def forward(self, *arrays): ...", []),
        ("from nets import Base\nclass Net(Base): ...", []),
    ],
)
def test_inputs_are_declared_in_the_order_of_forward(project: Path, text: str, codes: list[str]) -> None:
    weights(project, w="Float")
    (project / "net.py").write_text(text)
    assert [fault.code for fault in faults(project, TWO)] == codes
