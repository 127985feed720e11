"""Steps that need libraries: images by Pillow, texts by tokenizers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps import Place, Steps

pytestmark = pytest.mark.frameworks


def resized(images: Array, **settings: Any) -> Array:
    steps = Steps([{"step": "resize", "input": "image", "height": 8, "width": 12, **settings}], [], ["image"], [])
    steps.load(Place(Path(), {}))
    return steps.prepare({"image": images})["image"]


def pillow(image: Array, **arguments: Any) -> Array:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((12, 8), Image.Resampling.BILINEAR, **arguments))


def test_images_are_resized_as_pillow_does() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 30, 20, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resized(images), [pillow(image) for image in images])
    gray = images[..., 0]
    np.testing.assert_array_equal(resized(gray), [pillow(image) for image in gray])


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_any_number_of_channels(channels: int, dtype: str) -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 16, 24, channels), dtype=np.uint8).astype(dtype)
    found = resized(images)
    assert (found.shape, found.dtype) == ((2, 8, 12, channels), dtype)
    planes = [np.stack([pillow(image[..., at].copy()) for at in range(channels)], axis=-1) for image in images]
    np.testing.assert_allclose(found, planes, atol=1 if dtype == "uint8" else 1e-3)


def test_crop_keeps_proportions_and_the_middle() -> None:
    from PIL import Image

    image = np.random.default_rng(1).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    found = resized(image[None], fit="crop")[0].astype(int)
    whole = np.asarray(Image.fromarray(image).resize((12, 16), Image.Resampling.BILINEAR))
    assert np.abs(found - whole[4:12]).max() <= 1


def test_pad_fills_what_is_lacking() -> None:
    image = np.full((1, 16, 8, 1), 200, dtype=np.uint8)
    found = resized(image, fit="pad", fill=7)[0, ..., 0]
    assert found[:, 4:8].tolist() == [[200] * 4] * 8
    assert {*found[:, :4].flat, *found[:, 8:].flat} == {7}


def test_long_images_and_very_many_are_bounded() -> None:
    line = np.full((1, 1, 100_000, 1), 9, dtype=np.uint8)
    for fit in ("crop", "pad", "stretch"):
        assert resized(line, fit=fit).shape == (1, 8, 12, 1)
    with pytest.raises(ServiceError, match="send 932067 in one request at most") as error:
        resized(np.zeros((1_000_000, 1, 1, 3), dtype=np.uint8))
    assert (error.value.status, error.value.field) == (422, "inputs.image")
    with pytest.raises(ServiceError, match="no pixels"):
        resized(np.zeros((1, 0, 4, 3), dtype=np.uint8))
    assert resized(np.zeros((0, 4, 4, 3), dtype=np.uint8)).shape == (0, 8, 12, 3)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of words, which pads and truncates by itself as those of sentence-transformers do."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{n}" for n in range(100))]
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    made.enable_padding(length=128, pad_id=0, pad_token="[PAD]")
    made.enable_truncation(128)
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save(str(folder / "tokenizer.json"))
    return folder


def tokenized(folder: Path, texts: list[str], **changes: Any) -> dict[str, Array]:
    names = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}
    settings: dict[str, Any] = {
        "step": "tokenize",
        "input": "text",
        "max_length": 16,
        "truncate": True,
        "multiple_of": 4,
        "tokenizer": {"role": "artifacts", "path": "tokenizer.json"},
        "fills": {part: {"name": name, "dtype": "int64"} for part, name in names.items()},
        **changes,
    }
    steps = Steps([settings], [], list(names.values()), [])
    steps.load(Place(folder, {"artifacts": folder}))
    pair = {"document": np.array(["w3"] * len(texts), dtype=object)}
    return steps.prepare({"text": np.array(texts, dtype=object), **pair})


def test_texts_become_tokens(tokenizer: Path) -> None:
    found = tokenized(tokenizer, ["w0 w1 w2", "other"])
    assert found["input_ids"].tolist() == [[1, 4, 5, 6, 2, 0, 0, 0], [1, 3, 2, 0, 0, 0, 0, 0]]
    assert found["attention_mask"].tolist() == [[1] * 5 + [0] * 3, [1] * 3 + [0] * 5]
    assert found["token_type_ids"].tolist() == [[0] * 8] * 2
    assert {array.dtype.name for array in found.values()} == {"int64"}


def test_pairs_and_none_at_all(tokenizer: Path) -> None:
    found = tokenized(tokenizer, ["w0"], pair="document")
    assert found["input_ids"].tolist() == [[1, 4, 2, 7, 2, 0, 0, 0]]
    assert found["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 0, 0, 0]]
    assert tokenized(tokenizer, [])["input_ids"].shape[0] == 0


def test_lengths_are_rounded_up_to_multiples_and_end_at_the_models(tokenizer: Path) -> None:
    lengths = {n: tokenized(tokenizer, ["w0 " * n])["input_ids"].shape[1] for n in (0, 1, 2, 3, 10, 13, 14, 90)}
    assert lengths == {0: 4, 1: 4, 2: 4, 3: 8, 10: 12, 13: 16, 14: 16, 90: 16}
    assert tokenized(tokenizer, ["w0"], multiple_of=16)["input_ids"].shape == (1, 16)


def test_a_text_that_is_too_long_is_cut_or_refused(tokenizer: Path) -> None:
    cut = tokenized(tokenizer, ["w0 " * 90])["input_ids"]
    assert cut.tolist() == [[1, *[4] * 14, 2]]
    with pytest.raises(ServiceError, match=r"inputs.text.1: 92 tokens; the model takes 16 at most") as error:
        tokenized(tokenizer, ["w0", "w0 " * 90], truncate=False)
    assert (error.value.status, error.value.field) == (422, "inputs.text.1")


def test_threads_may_tokenize_at_once(tokenizer: Path) -> None:
    steps = Steps(
        [
            {
                "step": "tokenize",
                "input": "text",
                "max_length": 64,
                "truncate": True,
                "multiple_of": 1,
                "tokenizer": {"path": "tokenizer.json"},
                "fills": {"ids": {"name": "ids", "dtype": "int32"}},
            }
        ],
        [],
        ["ids"],
        [],
    )
    steps.load(Place(tokenizer, {}))

    def ids(n: int) -> Any:
        return steps.prepare({"text": np.array([f"w{n} " * (n % 50)], dtype=object)})["ids"].tolist()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ids, range(100))) == [[[1, *[n + 4] * (n % 50), 2]] for n in range(100)]


def test_a_tokenizer_that_is_not_there_or_none(tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"there is no tokenizer.json") as error:
        tokenized(tmp_path, [])
    assert error.value.code == "load_failed"
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(ServiceError, match="is no tokenizer"):
        tokenized(tmp_path, [])
