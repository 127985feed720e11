"""The step from texts to the numbers of their tokens."""

from __future__ import annotations

from typing import Any, Literal

from mlspec.characters import quoted
from mlspec.model.frozen import Frozen
from mlspec.model.signature import Tensor
from mlspec.tensors.steps.base import Applied, Around, Arrays, BadStepError, found, numbers

TOKENIZER = "tokenizer.json"
_USUAL = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}
_DTYPES = {
    "ids": ("int32", "int64"),
    "mask": ("int32", "int64", "float32", "float16", "bool"),
    "types": ("int32", "int64"),
}


class Tokenize(Frozen):
    """Texts to tokens, by a `tokenizer.json`: of the model's folder, or the project's file `tokenizer`.

    `ids`, `mask` and `types` are the model's inputs that it fills, None: those that have the usual names. `pair` is the
    second text of each row, for models that compare two. Rows end at `max_length`; with `too_long: refuse` a request
    with a longer one is refused. They are padded to the longest row of their request, rounded up to `multiple_of`, as
    requests of equal lengths are computed together; or all to `max_length`.
    """

    step: Literal["tokenize"]
    input: str = "text"
    pair: str | None = None
    tokenizer: str | None = None
    max_length: int | None = None
    too_long: Literal["truncate", "refuse"] = "truncate"
    padding: Literal["longest", "max_length"] = "longest"
    multiple_of: int = 16
    ids: str | None = None
    mask: str | None = None
    types: str | None = None

    def taken(self, wanted: Arrays, around: Around) -> Applied:
        filled = self._filled(wanted)
        ids = filled["ids"]
        length = self._length(ids)
        settings: dict[str, Any] = {"step": self.step, "input": self.input, "pair": self.pair, "max_length": length}
        settings |= {"truncate": self.too_long == "truncate", "multiple_of": self._multiple(ids, length)}
        settings["fills"] = {part: {"name": t.name, "dtype": t.dtype} for part, t in filled.items()}
        settings["tokenizer"] = self._file(around)
        rest = {name: t for name, t in wanted.items() if name not in {t.name for t in filled.values()}}
        return Applied({**self._texts(rest, ids), **rest}, settings)

    def _filled(self, wanted: Arrays) -> dict[str, Tensor]:
        """The model's inputs that are made of the texts, by what they hold."""
        names = {"ids": self.ids, "mask": self.mask, "types": self.types}
        filled = {
            part: numbers(found(name or usual, wanted, part), _DTYPES[part], part)
            for part, usual in _USUAL.items()
            if (name := names[part]) or part == "ids" or usual in wanted
        }
        for part, tensor in filled.items():
            if len(tensor.shape) != 2 or tensor.shape != filled["ids"].shape:
                message = f"{quoted(tensor.name)} is {tensor}; tokens are [batch, tokens], the same in all inputs"
                raise BadStepError(message, part, help="correct the model's signature, or name another input")
        return filled

    def _length(self, ids: Tensor) -> int:
        size = ids.shape[1]
        if self.max_length is None and isinstance(size, str):
            message = "nothing says how many tokens the model takes"
            raise BadStepError(message, help="give max_length: 512, or what the model was trained with")
        if self.max_length is not None and isinstance(size, int) and size != self.max_length:
            message = f"{quoted(ids.name)} is {ids}: it has {size} tokens"
            raise BadStepError(message, "max_length", help=f"leave it out, or write {size}")
        return size if isinstance(size, int) else int(self.max_length or 0)

    def _multiple(self, ids: Tensor, length: int) -> int:
        """What the lengths of rows are rounded up to."""
        return length if self.padding == "max_length" or isinstance(ids.shape[1], int) else self.multiple_of

    def _file(self, around: Around) -> dict[str, str]:
        """Where the tokenizer is as the service runs."""
        if self.tokenizer is not None:
            return {"path": f"user/{self.tokenizer}"}
        for role, paths in around.files.items():
            if TOKENIZER in paths:
                return {"role": role, "path": TOKENIZER}
        message = f"the model's folder has no {TOKENIZER}" if around.files else "the model has no folder"
        raise BadStepError(message, help="name a file of the project, as in tokenizer: models/words/tokenizer.json")

    def _texts(self, rest: Arrays, ids: Tensor) -> dict[str, Tensor]:
        texts = [Tensor(name=name, dtype="string", shape=ids.shape[:1]) for name in (self.input, self.pair) if name]
        for text in texts:
            if text.name in rest and rest[text.name].dtype != "string":
                message = f"{quoted(text.name)} is {rest[text.name]} to what follows, and can't be text, too"
                raise BadStepError(message, "input", help="give the text another name")
        return {text.name: text for text in texts}
