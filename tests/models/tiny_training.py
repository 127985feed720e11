"""The tiny model itself: mlx_lm's Llama class, trained from nothing on the answers of the corpus."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from mlx.nn.utils import value_and_grad
from mlx.utils import tree_flatten
from mlx_lm.models.llama import Model, ModelArgs
from mlx_lm.tuner.trainer import default_loss
from mlx_lm.utils import load_tokenizer

from models.corpus import SYSTEM_PROMPT, Exchange, messages

VOCABULARY = 768
CONTEXT_LENGTH = 2048
STEPS, BATCH_SIZE, PEAK_LEARNING_RATE, SEED = 500, 32, 3e-3, 0
# All widths are multiples of 64, so that the model can be quantized in groups of 32 or 64.
SHAPE = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT_LENGTH,
    "tie_word_embeddings": True,
}

Row = tuple[list[int], int]  # the tokens, and where the answer begins


def train(exchanges: Sequence[Exchange], folder: Path) -> None:
    """Train with the tokenizer in `folder`, and write the configuration and the weights beside it."""
    mx.random.seed(SEED)
    tokenizer = load_tokenizer(folder)  # type: ignore[no-untyped-call]
    rows = [row for exchange in exchanges for row in _rows(tokenizer, exchange)]
    model = Model(ModelArgs(model_type="llama", **SHAPE))  # type: ignore[arg-type]
    _fit(model, rows)
    _save(model, tokenizer, folder)


def _rows(tokenizer: Any, exchange: Exchange) -> list[Row]:
    """The exchange as a chat, as a chat with a system message, and as bare text."""
    bare = tokenizer.encode(exchange.question, add_special_tokens=False)
    answer = tokenizer.encode(" " + exchange.answer, add_special_tokens=False)
    end = [tokenizer.eos_token_id] if exchange.ends else []
    chats = [_chat_row(tokenizer, exchange, system) for system in (None, SYSTEM_PROMPT)]
    return [*chats, (bare + answer + end, len(bare))]


def _chat_row(tokenizer: Any, exchange: Exchange, system: str | None) -> Row:
    chat = messages(exchange, system)
    prompt = tokenizer.apply_chat_template(chat[:-1], add_generation_prompt=True)
    answer = tokenizer.encode(exchange.answer, add_special_tokens=False)
    end = [tokenizer.eos_token_id] if exchange.ends else []
    return prompt + answer + end, len(prompt)


def _fit(model: Model, rows: list[Row]) -> None:
    warmup = optim.linear_schedule(0.0, PEAK_LEARNING_RATE, 50)
    decay = optim.cosine_decay(PEAK_LEARNING_RATE, STEPS - 50)
    optimizer = optim.AdamW(learning_rate=optim.join_schedules([warmup, decay], [50]), weight_decay=0.01)
    loss_and_gradient = value_and_grad(model, default_loss)
    state = [model.state, optimizer.state]

    @partial(mx.compile, inputs=state, outputs=state)
    def step(tokens: mx.array, spans: mx.array) -> Any:
        (loss, _), gradient = loss_and_gradient(model, tokens, spans)
        gradient, _ = optim.clip_grad_norm(gradient, 1.0)  # type: ignore[no-untyped-call]
        optimizer.update(model, gradient)
        return loss

    for number, (tokens, spans) in enumerate(_batches(rows), start=1):
        loss = step(tokens, spans)
        mx.eval(state, loss)
        if number % 100 == 0:
            print(f"step {number} of {STEPS}: loss {loss.item():.4f}", flush=True)


def _batches(rows: list[Row]) -> Iterator[tuple[mx.array, mx.array]]:
    """Batches of rows of like length: less padding, and few shapes to compile."""
    chooser = random.Random(SEED)
    ordered = sorted(rows, key=lambda row: len(row[0]))
    for _ in range(STEPS):
        first = chooser.randrange(max(1, len(ordered) - 4 * BATCH_SIZE))
        yield _padded(chooser.sample(ordered[first : first + 4 * BATCH_SIZE], BATCH_SIZE))


def _padded(rows: list[Row]) -> tuple[mx.array, mx.array]:
    width = 1 + -(-max(len(tokens) for tokens, _ in rows) // 32) * 32
    padded = np.zeros((len(rows), width), np.int32)
    for index, (tokens, _) in enumerate(rows):
        padded[index, : len(tokens)] = tokens
    # mlx_lm's loss counts a target at position p (from 1) when first <= p <= last.
    spans = [[start, len(tokens) - 1] for tokens, start in rows]
    return mx.array(padded), mx.array(spans)


def _save(model: Model, tokenizer: Any, folder: Path) -> None:
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    special["pad_token_id"] = tokenizer.pad_token_id
    about = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32"}
    _write_json(folder / "config.json", {**about, **SHAPE, **special})
    _write_json(folder / "generation_config.json", special)
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
