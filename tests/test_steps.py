"""Steps before and after a model, as a spec is compiled: what requests and answers hold follows from the model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from mlspec.model.document import Pointer
from mlspec.model.signature import Tensor
from mlspec.resources import folder
from mlspec.tensors.steps import STEPS, Block, Stepped, step_files, step_packages, stepped
from mlspec_runtime.predict.steps import STEPS as RUN_STEPS

SCHEMA = json.loads((folder("schema") / "mlspec.schema.json").read_text(encoding="utf-8"))


@dataclass
class Heard:
    """The faults that were reported: code, message and pointer of each."""

    all: list[tuple[str, str, Pointer]] = field(default_factory=list)

    def error(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        assert help
        self.all.append((code, message, pointer))

    def warning(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        raise AssertionError(message)

    def of_service(self) -> Heard:
        return self


def tensor(name: str, dtype: Any, *shape: int | str, **more: Any) -> Tensor:
    return Tensor(name=name, dtype=dtype, shape=shape, **more)


IMAGE = tensor("image", "float32", "batch", 3, 32, 32)
LOGITS = tensor("logits", "float32", "batch", 3, labels=("cat", "dog", "owl"))
IDS = tensor("input_ids", "int64", "batch", "tokens")
MASK = tensor("attention_mask", "int64", "batch", "tokens")
HIDDEN = tensor("last_hidden_state", "float32", "batch", "tokens", 8)
FILES = {"artifacts": frozenset({"model.onnx", "tokenizer.json"})}


def before(steps: list[dict[str, Any]], *inputs: Tensor, files: Any = FILES, declared: Any = None) -> Stepped:
    return whole(Block(steps, (), declared), inputs, (LOGITS,), files)


def after(steps: list[dict[str, Any]], *outputs: Tensor, declared: Any = None) -> Stepped:
    return whole(Block((), steps, None, declared), (IDS, MASK), outputs, FILES)


def whole(block: Block, inputs: Any, outputs: Any, files: Any) -> Stepped:
    heard = Heard()
    found = stepped(block, inputs, outputs, files, heard)
    assert not heard.all
    assert found is not None
    return found


def fault(block: Block, inputs: Any = (IDS, MASK), outputs: Any = (LOGITS,), files: Any = FILES) -> tuple[str, Pointer]:
    heard = Heard()
    assert stepped(block, inputs, outputs, files, heard) is None
    ((code, message, pointer),) = heard.all
    assert code == "bad-step"
    return message, pointer


def told(tensors: tuple[Tensor, ...]) -> dict[str, str]:
    return {each.name: str(each) for each in tensors}


def test_each_step_has_a_runtime() -> None:
    assert set(STEPS) == set(RUN_STEPS)


def test_specs_offer_the_steps_of_each_side() -> None:
    for name, side in (("step-before", "taken"), ("step-after", "given")):
        offered = SCHEMA["$defs"][name]["properties"]["step"]["enum"]
        assert offered == [step for step, kind in STEPS.items() if hasattr(kind, side)]


def test_without_steps_requests_are_the_models() -> None:
    found = whole(Block(), (IDS,), (LOGITS,), {})
    assert (found.inputs, found.outputs, found.pre, found.post) == ((IDS,), (LOGITS,), (), ())


def test_images_of_any_size() -> None:
    steps = [
        {"step": "resize", "input": "image"},
        {"step": "normalize", "input": "image", "dtype": "uint8", "divide_by": 255, "mean": [0.4, 0.5, 0.6]},
        {"step": "transpose", "input": "image", "order": [0, 3, 1, 2]},
    ]
    found = before(steps, IMAGE)
    assert told(found.inputs) == {"image": "uint8[batch, image_height, image_width, 3]"}
    image = found.inputs[0].image
    assert image is not None
    assert (image.mode, image.layout, image.divide_by) == ("rgb", "channels_last", 1.0)
    assert [step["step"] for step in found.pre] == ["resize", "normalize", "transpose"]
    assert (found.pre[0]["height"], found.pre[0]["width"]) == (32, 32)
    assert (found.pre[1]["dtype"], found.pre[1]["rank"]) == ("float32", 4)


def test_gray_images_and_named_sides() -> None:
    gray = tensor("image", "uint8", "batch", "h", "w")
    found = before([{"step": "resize", "input": "image", "height": 8, "width": 16}], gray)
    assert found.inputs[0].image is not None
    assert (found.inputs[0].image.mode, found.inputs[0].image.layout) == ("gray", "none")
    assert (found.pre[0]["height"], found.pre[0]["width"]) == (8, 16)


def test_texts_become_the_models_inputs() -> None:
    found = before([{"step": "tokenize", "max_length": 64}], IDS, MASK, tensor("weight", "float32", "batch"))
    assert told(found.inputs) == {"text": "string[batch]", "weight": "float32[batch]"}
    (step,) = found.pre
    assert step["fills"] == {
        "ids": {"name": "input_ids", "dtype": "int64"},
        "mask": {"name": "attention_mask", "dtype": "int64"},
    }
    assert (step["max_length"], step["multiple_of"], step["truncate"]) == (64, 16, True)
    assert step["tokenizer"] == {"role": "artifacts", "path": "tokenizer.json"}


def test_pairs_of_texts_with_names_and_a_fixed_length() -> None:
    inputs = [tensor(name, "int32", "batch", 32) for name in ("tokens", "segments")]
    step = {"step": "tokenize", "input": "query", "pair": "document", "ids": "tokens", "types": "segments"}
    found = before([{**step, "tokenizer": "words/tokenizer.json", "too_long": "refuse"}], *inputs, files={})
    assert told(found.inputs) == {"query": "string[batch]", "document": "string[batch]"}
    settings = found.pre[0]
    assert (settings["max_length"], settings["multiple_of"], settings["truncate"]) == (32, 32, False)
    assert settings["tokenizer"] == {"path": "user/words/tokenizer.json"}


def test_names_and_functions_before_the_model() -> None:
    declared = (tensor("petals", "float64", "batch", 2),)
    steps = [
        {"step": "function", "module": "a/steps.py", "name": "cleaned"},
        {"step": "rename", "names": {"pixels": "image"}},
    ]
    found = before(steps, IMAGE, declared=declared)
    assert found.inputs == declared
    assert found.pre[0]["takes"] == ["petals"]
    assert [spec["name"] for spec in found.pre[0]["gives"]] == ["pixels"]
    own = [{**steps[0], "inputs": [{"name": "petals", "shape": ["batch", 2]}]}]
    assert told(before(own, IMAGE).inputs) == {"petals": "float32[batch, 2]"}


def test_scores_to_classes() -> None:
    steps = [
        {"step": "softmax", "input": "logits", "output": "probabilities", "keep": True},
        {"step": "argmax", "input": "logits", "output": "animal", "keep": True},
        {"step": "top_k", "input": "probabilities", "k": 2, "classes": "likely"},
        {"step": "labels", "input": "likely", "output": "likely_names"},
    ]
    found = after(steps, LOGITS)
    assert told(found.outputs) == {
        "logits": "float32[batch, 3]",
        "animal": "int64[batch]",
        "scores": "float32[batch, 2]",
        "likely_names": "string[batch, 2]",
    }
    assert found.outputs[1].labels == LOGITS.labels
    assert found.post[3]["labels"] == list(LOGITS.labels)


def test_tokens_to_embeddings() -> None:
    steps = [
        {"step": "mean_pool", "input": "last_hidden_state", "output": "embedding"},
        {"step": "l2_normalize", "input": "embedding"},
    ]
    found = after(steps, HIDDEN)
    assert told(found.outputs) == {"embedding": "float32[batch, 8]"}
    assert found.post[0]["mask"] == "attention_mask"
    first = after([{"step": "first_token", "input": "last_hidden_state"}], HIDDEN)
    assert told(first.outputs) == {"last_hidden_state": "float32[batch, 8]"}


def test_answers_hold_what_is_declared() -> None:
    declared = (tensor("animal", "int64", "batch", labels=("a", "b", "c")),)
    found = after([{"step": "argmax", "input": "logits", "output": "animal", "keep": True}], LOGITS, declared=declared)
    assert found.outputs == declared


TOKENIZE = {"step": "tokenize", "max_length": 8}
RESIZE = {"step": "resize", "input": "image"}
FUNCTION = {"step": "function", "module": "steps.py", "name": "cleaned"}
BEFORE: list[tuple[Any, Any, str, tuple[str | int, ...]]] = [
    ([{**RESIZE, "input": "imgae"}], (IMAGE,), "no array 'imgae'", ("input",)),
    ([RESIZE], (tensor("image", "float32", "batch", 3),), "is float32[batch, 3]; images are", ("input",)),
    ([RESIZE], (tensor("image", "int64", "batch", 3, 4, 1),), "works on uint8 or float32", ("input",)),
    ([RESIZE], (tensor("image", "uint8", "batch", "h", 4, 1),), "nothing says its height", ("input",)),
    ([{**RESIZE, "width": 3}], (tensor("image", "uint8", "batch", 4, 4, 1),), "its width is 4", ("width",)),
    ([{"step": "normalize", "input": "input_ids"}], (IDS,), "works on float16, float32 or float64", ("input",)),
    ([{"step": "normalize", "input": "image", "mean": [1, 2]}], (IMAGE,), "dimension -1 is 32, of mean", ("mean",)),
    ([{"step": "normalize", "input": "image", "std": [0]}], (IMAGE,), "divided by", ("std",)),
    ([{"step": "normalize", "input": "image", "axis": 4}], (IMAGE,), "no dimension 4", ("axis",)),
    ([{"step": "transpose", "input": "image", "order": [0, 1, 2]}], (IMAGE,), "no order", ("order",)),
    ([{"step": "transpose", "input": "image", "order": [0, 1, 2, 2]}], (IMAGE,), "no order", ("order",)),
    ([TOKENIZE], (IMAGE,), "no array 'input_ids'", ("ids",)),
    ([{**TOKENIZE, "types": "segments"}], (IDS,), "no array 'segments'", ("types",)),
    ([{"step": "tokenize"}], (IDS,), "how many tokens", ()),
    ([TOKENIZE], (tensor("input_ids", "int64", "batch", 9),), "it has 9 tokens", ("max_length",)),
    ([TOKENIZE], (tensor("input_ids", "float32", "batch", "n"),), "works on int32 or int64", ("ids",)),
    ([TOKENIZE], (IDS, tensor("attention_mask", "int64", "batch")), "tokens are [batch, tokens]", ("mask",)),
    ([{**TOKENIZE, "input": "image"}], (IDS, IMAGE), "can't be text, too", ("input",)),
    ([{"step": "rename", "names": {"a": "b"}}], (IDS,), "no array 'b'", ("names",)),
    ([{"step": "rename", "names": {"attention_mask": "input_ids"}}], (IDS, MASK), "one name", ("names",)),
    ([FUNCTION], (IDS,), "nothing says what 'cleaned' takes", ("name",)),
    ([{"step": "resize", "input": "x"}], (tensor("x", "uint8", "batch", 8, 8, 2),), "1, 3 or 4", ("input",)),
    ([{"step": "softmax", "input": "input_ids"}], (IDS,), "does not stand before", ("step",)),
]


@pytest.mark.parametrize(("steps", "inputs", "message", "pointer"), BEFORE, ids=range(len(BEFORE)))
def test_what_does_not_fit_before_the_model(steps: Any, inputs: Any, message: str, pointer: Pointer) -> None:
    said, place = fault(Block(steps), inputs)
    assert message in said
    assert place == ("pre", 0, *pointer)


AFTER: list[tuple[Any, Any, str, tuple[str | int, ...]]] = [
    ([{"step": "softmax", "input": "logit"}], LOGITS, "no array 'logit'", ("input",)),
    ([{"step": "argmax", "input": "c"}], tensor("c", "int64", "batch"), "works on float16", ("input",)),
    ([{"step": "argmax", "input": "logits", "labels": ["a"]}], LOGITS, "1 labels for the 3 scores", ("labels",)),
    ([{"step": "argmax", "input": "x"}], tensor("x", "float32"), "1 dimensions or more", ("input",)),
    ([{"step": "top_k", "input": "logits", "k": 4}], LOGITS, "it has no 4", ("k",)),
    ([{"step": "labels", "input": "c"}], tensor("c", "int64", "batch"), "stand for", ("input",)),
    ([{"step": "mean_pool", "input": "logits", "mask": "m"}], LOGITS, "no input of the model 'm'", ("mask",)),
    ([{"step": "mean_pool", "input": "x"}], tensor("x", "float32", "batch"), "2 dimensions or more", ("input",)),
    ([FUNCTION], LOGITS, "nothing says what 'cleaned' gives", ("name",)),
    ([{"step": "tokenize"}], LOGITS, "does not stand after", ("step",)),
]


@pytest.mark.parametrize(("steps", "output", "message", "pointer"), AFTER, ids=range(len(AFTER)))
def test_what_does_not_fit_after_the_model(steps: Any, output: Tensor, message: str, pointer: Pointer) -> None:
    said, place = fault(Block((), steps), (IDS, MASK), (output,))
    assert message in said
    assert place == ("post", 0, *pointer)


def test_two_arrays_can_not_have_one_name() -> None:
    steps = [{"step": "softmax", "input": "logits", "output": "other"}]
    said, place = fault(Block((), steps), outputs=(LOGITS, tensor("other", "float32", "batch")))
    assert (said, place) == ("softmax: there is an array 'other' already", ("post", 0))


def test_a_mask_of_another_shape() -> None:
    steps = [{"step": "mean_pool", "input": "last_hidden_state", "mask": "mask"}]
    said, place = fault(Block((), steps), (tensor("mask", "int64", "batch"),), (HIDDEN,))
    assert "the mask 'mask' is int64[batch]" in said
    assert place == ("post", 0, "mask")


def test_a_tokenizer_must_be_there() -> None:
    assert fault(Block([TOKENIZE]), files={})[0] == "tokenize: the model has no folder"
    assert "no tokenizer.json" in fault(Block([TOKENIZE]), files={"artifacts": frozenset({"a.onnx"})})[0]


@pytest.mark.parametrize(
    ("declared", "message", "pointer"),
    [
        ((tensor("txt", "string", "batch"),), "nothing takes the input 'txt'", ("inputs", 0)),
        (
            (tensor("text", "int64", "batch"),),
            "the input 'text' is int64[batch]; wanted is string[batch]",
            ("inputs", 0),
        ),
        ((tensor("text", "string", "batch", 2),), "of 2 dimensions; wanted is string[batch]", ("inputs", 0)),
    ],
)
def test_declared_inputs_are_what_is_taken(declared: Any, message: str, pointer: Pointer) -> None:
    said, place = fault(Block([TOKENIZE], (), declared))
    assert message in said
    assert place == pointer


def test_all_that_is_taken_is_declared() -> None:
    said, place = fault(Block((), (), (IDS,)))
    assert (said, place) == ("the steps and the model take attention_mask, too", ("inputs",))
    said, place = fault(Block((), (), (tensor("image", "float32", "batch", 3, 32, "w"),)), (IMAGE,))
    assert "whose dimension 3 is 32" in said


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (tensor("logit", "float32", "batch", 3), "nothing gives the output 'logit'"),
        (tensor("logits", "float32", "batch", 4), "is float32[batch, 3]; wanted is float32[batch, 4]"),
    ],
)
def test_declared_outputs_are_what_is_given(declared: Tensor, message: str) -> None:
    said, place = fault(Block((), (), None, (declared,)))
    assert message in said
    assert place == ("outputs", 0)


def test_files_and_packages_of_steps() -> None:
    block = Block([{**FUNCTION, "files": ["a.json"]}, {**TOKENIZE, "tokenizer": "t.json"}], [FUNCTION])
    assert step_files(block) == {
        ("pre", 0, "module"): "steps.py",
        ("pre", 0, "files", 0): "a.json",
        ("pre", 1, "tokenizer"): "t.json",
        ("post", 0, "module"): "steps.py",
    }
    assert step_packages(block) == ("tokenizers",)
