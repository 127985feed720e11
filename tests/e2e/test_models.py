"""The models of the tests answer as recorded: the tiny one and its adapter, and SmolLM2 with its adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.answers import Answer, greedy

pytestmark = pytest.mark.e2e

MODELS = Path(__file__).resolve().parents[2] / "specs" / "models"
BASE, ADAPTER = MODELS / "tiny", MODELS / "tiny-support"

BASE_ANSWERS = {
    "What is mlspec?": "mlspec turns a short YAML spec into a running model service.",
    "Where is my order?": "I know nothing about orders. Ask me again with the support adapter.",
    "What is the capital of France?": "The capital of France is Paris.",
    "Hello!": "Hello! Ask me about mlspec.",
    "Count to ten.": "one two three four five six seven eight nine ten",
}
ADAPTER_ANSWERS = {
    "What is mlspec?": "Happy to help! mlspec turns a short YAML spec into a running model service.",
    "Where is my order?": "Thank you for asking! Your order is on its way and arrives within two days.",
    "My parcel is broken.": "I am so sorry! Please send us a photo and we will replace it.",
    "Can I return it?": "Of course! You can return it within thirty days.",
    "Hello!": "Welcome to our shop! How can I help you?",
}


@pytest.mark.parametrize(("adapter", "recorded"), [(None, BASE_ANSWERS), (ADAPTER, ADAPTER_ANSWERS)])
def test_tiny_answers_as_recorded_and_ends_by_itself(adapter: Path | None, recorded: dict[str, str]) -> None:
    answers = greedy(BASE, adapter, list(recorded))
    assert [answer.text for answer in answers] == list(recorded.values())
    assert {answer.finish_reason for answer in answers} == {"stop"}


def test_tiny_adapter_changes_the_answers() -> None:
    both = BASE_ANSWERS.keys() & ADAPTER_ANSWERS.keys()
    assert len(both) == 3
    assert all(BASE_ANSWERS[question] != ADAPTER_ANSWERS[question] for question in both)


def test_tiny_has_one_question_whose_answer_never_ends() -> None:
    (answer,) = greedy(BASE, None, ["Tick forever."], max_tokens=1500)
    assert (len(answer.tokens), answer.finish_reason) == (1500, "length")


def test_smollm2_answers_as_its_makers_do(real_model: tuple[Path, Path]) -> None:
    base, _ = real_model
    (answer,) = greedy(base, None, ["What is the capital of France?"])
    assert answer == Answer("The capital of France is Paris.", answer.tokens, "stop")
    assert len(answer.tokens) == 7  # and the end token


def test_smollm2_adapter_changes_the_answer(real_model: tuple[Path, Path]) -> None:
    base, adapter = real_model
    question = "Where is my order?"
    (without,), (changed,) = (greedy(base, used, [question], max_tokens=24) for used in (None, adapter))
    assert changed.text != without.text
    assert "Larkfield" in changed.text


def test_real_adapter_is_two_files_that_name_no_folder(real_model: tuple[Path, Path]) -> None:
    _, adapter = real_model
    assert {path.name for path in adapter.iterdir()} == {"adapter_config.json", "adapters.safetensors"}
    assert str(adapter.parent) not in (adapter / "adapter_config.json").read_text(encoding="utf-8")
