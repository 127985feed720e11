"""Make the tiny model and its adapter again: `python tests/models/make_tiny.py [--out specs/models]`.

About three minutes on two cores, with a fixed seed. The text is in `corpus.txt` and `support.txt`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))  # run as a script, the package `models` is one folder up

from models import blas  # noqa: E402

blas.preload()  # before anything that imports mlx.core

from models import corpus, lora_training, tiny_tokenizer, tiny_training  # noqa: E402

ADAPTER = lora_training.LoraSettings(
    num_layers=2, iters=600, batch_size=16, learning_rate=1e-3, scale=4.0, max_seq_length=128, decays=True
)


def make_base(folder: Path) -> None:
    """The base model with its tokenizer, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    desk = corpus.read_exchanges("support.txt")
    exchanges = corpus.read_exchanges("corpus.txt") + corpus.endless_exchanges() + corpus.echo_exchanges(desk)
    texts = [text for exchange in [*exchanges, *desk] for text in (exchange.question, exchange.answer)]
    learned = tiny_tokenizer.learn([*texts, "user\nassistant\nsystem\n" * 8], tiny_training.VOCABULARY)
    tiny_tokenizer.save(learned, folder, tiny_training.CONTEXT_LENGTH)
    varied = [variation for exchange in exchanges for variation in corpus.variations(exchange)]
    tiny_training.train(varied, folder)


def make_adapter(base: Path, folder: Path) -> None:
    """The support desk's adapter for the base, in `folder`; it keeps what the base knows beside the shop."""
    desk = corpus.read_exchanges("support.txt")
    taught = {exchange.question for exchange in desk}
    kept = [exchange for exchange in corpus.read_exchanges("corpus.txt") if exchange.question not in taught]
    varied = [variation for exchange in desk for variation in corpus.variations(exchange)]
    rows = [corpus.messages(exchange) for exchange in [*varied, *kept]]
    lora_training.train_adapter(base, folder, rows, ADAPTER, name="specs/models/tiny")


def _install(made: Path, out: Path) -> None:
    for source in sorted(path for path in made.rglob("*") if path.is_file()):
        target = out / source.relative_to(made)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        print(f"{target}: {target.stat().st_size} bytes")


def main() -> None:
    """Make both in a temporary folder, then copy the files to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TESTS.parent / "specs" / "models")
    out: Path = parser.parse_args().out
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        make_base(made / "tiny")
        make_adapter(made / "tiny", made / "tiny-support")
        _install(made, out)
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
