"""Rows per second of `mlspec predict` beside a plain loop over the same class, and beside Ray Data.

    python tests/benchmarks/batch_inference.py [--rows N] [--rounds N] [--ray PYTHON] [--prompts N --tokens N]

Each is a process of its own that reads the same Parquet file, calls the class `Iris` of the example with so many rows
at once, and writes a Parquet file; the whole of it is timed, from the start of the process to its end, and its peak
of memory is that of all its processes together. Rounds alternate; medians, and the range beside them. `--ray` is a
Python that has ray[data]; it runs in a network of its own (`unshare -n`, root). With `--prompts`, SmolLM2 in place of
the class: requests of `mlspec predict` beside `mlx_lm.stream_generate`, one prompt after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # run as a script
    sys.path.insert(0, str(TESTS))

from mlspec.descendants import descendants  # noqa: E402
from projects import example  # noqa: E402

ROWS_AT_ONCE = 1024
LOOP = """
import sys
sys.path.insert(0, "specs/models/iris")
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from model import Iris
iris = Iris(); iris.load(Path("specs/models/iris/artifacts"))
writer = None
for batch in pq.ParquetFile("in.parquet").iter_batches(AT_ONCE):
    flowers = batch.column("flowers").flatten().to_numpy().reshape(-1, 4)
    out = pa.table({"id": batch.column("id"), **iris.predict({"flowers": flowers})})
    writer = writer or pq.ParquetWriter("out.parquet", out.schema)
    writer.write_table(out)
writer.close()
"""
RAY = """
import sys
from pathlib import Path
import numpy as np, ray
ray.init(address="local", _node_ip_address="127.0.0.1", include_dashboard=False, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
here = str(Path.cwd())
class Call:
    def __init__(self):
        sys.path.insert(0, here + "/specs/models/iris")
        from model import Iris
        self.iris = Iris(); self.iris.load(Path(here + "/specs/models/iris/artifacts"))
    def __call__(self, batch):
        flowers = np.stack(batch["flowers"]) if batch["flowers"].dtype == object else batch["flowers"]
        return {"id": batch["id"], **self.iris.predict({"flowers": flowers})}
data = ray.data.read_parquet(here + "/in.parquet").map_batches(Call, batch_size=AT_ONCE, concurrency=1, num_cpus=1)
data.write_parquet(here + "/out-ray")
"""
PROMPTS_LOOP = """
import ctypes, json, sys
ctypes.CDLL("libopenblas.so.0", mode=ctypes.RTLD_GLOBAL)
from mlx_lm import load, stream_generate
model, tokenizer = load(sys.argv[1])
with open("out.jsonl", "w") as out:
    for line in open("in.jsonl"):
        row = json.loads(line)
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": row["prompt"]}], add_generation_prompt=True)
        text = "".join(r.text for r in stream_generate(model, tokenizer, prompt, max_tokens=row["max_tokens"]))
        out.write(json.dumps({"text": text}) + "\\n")
"""
SMOL = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: smol, project: benchmark}
model: {runner: mlx-lm, base: {root: models, path: BASE}}
service: {concurrency: 8}
targets: [{name: linux, platform: linux, accelerator: cpu}, {name: mac, platform: macos}]
"""


@dataclass(frozen=True)
class Run:
    """One contender's whole process."""

    wall_s: float
    peak_bytes: int


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--ray", default="", metavar="PYTHON")
    parser.add_argument("--prompts", type=int, default=0, metavar="N")
    parser.add_argument("--tokens", type=int, default=16, metavar="N")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        project = example(Path(folder, "project"))
        if given.prompts:
            count, contenders = given.prompts, of_prompts(project, given.prompts, given.tokens)
        else:
            count, contenders = given.rows, of_rows(project, given.rows, given.ray)
        told(count, measured(project, contenders, given.rounds))


def of_rows(project: Path, rows: int, ray: str) -> dict[str, list[str]]:
    """The commands, and the file that they read."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = pa.array(np.random.default_rng(0).random(4 * rows, dtype=np.float32))
    table = pa.table({"id": np.arange(rows), "flowers": pa.FixedSizeListArray.from_arrays(values, 4)})
    pq.write_table(table, project / "in.parquet", row_group_size=100_000)
    at_once = f"AT_ONCE = {ROWS_AT_ONCE}"
    commands = {
        "a plain loop": [sys.executable, "-c", f"{at_once}{LOOP}"],
        "mlspec predict": predict("specs/iris.yaml", "parquet", "--keep", "id", "--batch-rows", str(ROWS_AT_ONCE)),
    }
    if ray:
        alone = ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
        commands["Ray Data"] = [*alone, ray, "-c", f"{at_once}{RAY}"]
    return commands


def of_prompts(project: Path, prompts: int, tokens: int) -> dict[str, list[str]]:
    """The same of a language model."""
    from benchmarks.measuring import Prompts
    from models import smollm2

    base, _ = smollm2.prepared()
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\nroots: {models: {}}\n")
    (project / "smol.yaml").write_text(SMOL.replace("BASE", base.name))
    rows = ({"prompt": prompt, "max_tokens": tokens} for prompt in Prompts().take(prompts))
    (project / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "one after the other": [sys.executable, "-c", PROMPTS_LOOP, str(base)],
        "mlspec predict": predict("smol.yaml", "jsonl", "--root", f"models={base.parent}"),
    }


def predict(spec: str, kind: str, *more: str) -> list[str]:
    files = ["--input", f"in.{kind}", "--output", f"out.{kind}", "--restart"]
    return [sys.executable, "-m", "mlspec", "predict", spec, *files, *more]


def measured(project: Path, contenders: dict[str, list[str]], rounds: int) -> dict[str, list[Run]]:
    """Rounds that alternate; the first, in which bundles are built and files come into memory, counts for nothing."""
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, command in contenders.items():
            run = timed(command, project)
            if number:
                runs[name].append(run)
    return runs


def timed(command: list[str], project: Path) -> Run:
    begin, peak_bytes = time.monotonic(), 0
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL, env=environment) as process:
        while process.poll() is None:
            peak_bytes = max(peak_bytes, sum(map(held_bytes, [process.pid, *descendants(process.pid)])))
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return Run(time.monotonic() - begin, peak_bytes)


def held_bytes(pid: int) -> int:
    """The memory that a process holds, what it shares with others divided among them; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def told(count: int, runs: dict[str, list[Run]]) -> None:
    print(f"{count:,} rows, medians of {len(next(iter(runs.values())))}\n")
    print(f"{'':22}{'rows/s':>12}{'range':>26}{'seconds':>10}{'peak MB':>10}")
    for name, own in runs.items():
        per_s = [count / run.wall_s for run in own]
        wall_s, peak = middle(own, lambda run: run.wall_s), middle(own, lambda run: run.peak_bytes / 1e6)
        spread = f"{min(per_s):,.1f} to {max(per_s):,.1f}"
        print(f"{name:22}{statistics.median(per_s):>12,.1f}{spread:>26}{wall_s:>10.1f}{peak:>10.0f}")


def middle(runs: Sequence[Run], of: Callable[[Run], float]) -> float:
    return statistics.median(map(of, runs))


if __name__ == "__main__":
    main(sys.argv[1:])
