"""Fetching from a hub: real downloads by huggingface_hub, in a process of its own, from one on 127.0.0.1."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_stand_in import COMMIT, TOKEN, Hub, Repository, running_hub
from mlspec.commands.fetch import _explained, fetch
from mlspec.errors import CommandError
from mlspec.hub import snapshot_folder, snapshots, wanted
from mlspec.model.spec import Source

INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
MODEL = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "tokenizer.model": b"\0",
    "chat_template.jinja": b"{{ messages }}",
    "merges.txt": b"a b",
    "model.safetensors": bytes(range(256)) * 400,
}
NEVER = {
    "README.md": b"# model",
    "modeling.py": b"raise SystemExit",
    "tokenizer.py": b"raise SystemExit",
    "tokenizer.pkl": b"\x80\x04.",
    "pytorch_model.bin": b"\x80\x04.",
    "model.pt": b"\x80\x04.",
    "consolidated.safetensors": b"again",
    "onnx/config.json": b"{}",
}
REPOSITORIES = {
    "org/model": Repository(MODEL | NEVER),
    "org/gated": Repository(MODEL, refuses="gated"),
    "org/private": Repository(MODEL, refuses="private"),
    "org/forbidden": Repository(MODEL, refuses=403),
    "org/gone": Repository(MODEL, refuses=410),
    "org/gguf-only": Repository({"model.gguf": b"GGUF"}),
}

# What the command line does with `fetch`, without the command line: a JSON line for each one on stdin.
PROGRAM = """
import json, os, sys
from pathlib import Path
from mlspec.commands.fetch import fetch
from mlspec.errors import CommandError
from mlspec.model.spec import Source
for line in sys.stdin:
    name, commit, cache, token = json.loads(line)
    os.environ["HF_TOKEN"] = token
    try:
        answer = {"folder": str(fetch(Source(hf=name, revision=commit), Path(cache)))}
    except CommandError as error:
        answer = {"code": error.code, "message": error.message, "help": error.help}
    print(json.dumps(answer), flush=True)
"""
WITHOUT_LIBRARY = "import sys; sys.modules['huggingface_hub'] = None\n" + PROGRAM


def environment(hub_address: str, home: Path) -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return own | {"HF_ENDPOINT": hub_address, "HF_HOME": str(home), "PYTHONWARNINGS": "error"}


class Fetcher:
    """A process whose hub is the stand-in: huggingface_hub reads the hub's address once, as it is imported."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self.stderr = home / "stderr.txt"
        with self.stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env=environment(hub.address, home),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def fetch(self, name: str, cache: Path, commit: str = COMMIT, token: str = "") -> dict[str, str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([name, commit, str(cache), token]) + "\n")
        self.process.stdin.flush()
        answer: dict[str, str] = json.loads(self.process.stdout.readline() or self.stderr.read_text())
        return answer

    def close(self) -> None:
        self.process.communicate(timeout=10)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub(REPOSITORIES) as running:
        yield running


@pytest.fixture(scope="module")
def fetcher(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fetcher]:
    running = Fetcher(hub, tmp_path_factory.mktemp("home"))
    yield running
    running.close()


def fetched(
    address: str, cache: Path, name: str = "org/model", program: str = PROGRAM, wrapper: tuple[str, ...] = ()
) -> dict[str, str]:
    """What `fetch` says in a process of its own; its stderr under `stderr`."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", program],
        env=environment(address, cache.parent / "home"),
        input=json.dumps([name, COMMIT, str(cache), ""]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, str] = json.loads(done.stdout)
    return answer | {"stderr": done.stderr}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_fetches_what_runners_read_and_nothing_else(fetcher: Fetcher, tmp_path: Path) -> None:
    folder = Path(fetcher.fetch("org/model", tmp_path)["folder"])
    assert contents(folder) == MODEL
    assert folder == snapshot_folder(tmp_path, "org/model", COMMIT)
    assert snapshots(tmp_path, "org/model") == (COMMIT,)


def test_it_is_quiet_where_stderr_is_no_terminal(hub: Hub, tmp_path: Path) -> None:
    assert fetched(hub.address, tmp_path / "cache")["stderr"] == ""


def test_a_second_fetch_asks_nothing(hub: Hub, fetcher: Fetcher, tmp_path: Path) -> None:
    first = fetcher.fetch("org/model", tmp_path)
    asked = len(hub.asked)
    assert fetcher.fetch("org/model", tmp_path) == first
    assert hub.asked[asked:] == []


def test_a_whole_model_needs_no_huggingface_hub(fetcher: Fetcher, tmp_path: Path) -> None:
    folder = fetcher.fetch("org/model", tmp_path / "cache")["folder"]
    assert fetched("", tmp_path / "cache", program=WITHOUT_LIBRARY)["folder"] == folder


def test_without_huggingface_hub_it_says_what_to_install(tmp_path: Path) -> None:
    assert fetched("", tmp_path / "cache", program=WITHOUT_LIBRARY) == {
        "code": "hub-library-missing",
        "message": "fetching needs huggingface_hub",
        "help": "pip install 'mlspec-compiler[hub]'",
        "stderr": "",
    }


@pytest.mark.parametrize(
    ("name", "commit", "token", "code", "message"),
    [
        ("org/none", COMMIT, "", "hub-not-found", "the hub shows no model 'org/none'"),
        ("org/none", COMMIT, TOKEN, "hub-not-found", "the hub shows no model 'org/none'"),
        ("org/private", COMMIT, "", "hub-not-found", "the hub shows no model 'org/private'"),
        ("org/model", "f" * 40, "", "hub-not-found", f"'org/model' has no commit {'f' * 40}"),
        ("org/gated", COMMIT, "", "hub-no-access", "'org/gated' is gated"),
        ("org/gated", COMMIT, "another", "hub-no-access", "'org/gated' is gated"),
        ("org/forbidden", COMMIT, "", "hub-no-access", "'org/forbidden' was refused (HTTP 403)"),
        ("org/gone", COMMIT, "", "hub-unreachable", "the hub answered HTTP 410 for 'org/gone'"),
        (
            "org/gguf-only",
            COMMIT,
            "",
            "hub-nothing-to-fetch",
            f"'org/gguf-only' at {COMMIT[:12]} has no file that a runner reads",
        ),
    ],
)
def test_the_hub_says_no(
    fetcher: Fetcher, tmp_path: Path, name: str, commit: str, token: str, code: str, message: str
) -> None:
    answer = fetcher.fetch(name, tmp_path, commit, token)
    assert (answer["code"], answer["message"]) == (code, message)
    assert answer["help"]
    assert "Traceback" not in fetcher.stderr.read_text()
    assert snapshot_folder(tmp_path, name, commit) is None


@pytest.mark.parametrize("name", ["org/gated", "org/private"])
def test_the_token_opens(fetcher: Fetcher, tmp_path: Path, name: str) -> None:
    assert contents(Path(fetcher.fetch(name, tmp_path, token=TOKEN)["folder"])) == MODEL


def test_a_download_that_breaks_off_is_no_snapshot_and_can_be_finished(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with running_hub({"org/model": Repository(MODEL, breaks_off_after_bytes=1000)}) as hub:
        answer = fetched(hub.address, cache)
        assert answer["code"] == "hub-unreachable"
        assert answer["help"] == "run the same command again: files that are whole are kept"
        assert (cache / "models--org--model" / "snapshots" / COMMIT / "config.json").is_file()
        assert snapshots(cache, "org/model") == ()
    with running_hub({"org/model": Repository(MODEL)}) as hub:
        assert contents(Path(fetched(hub.address, cache)["folder"])) == MODEL
        assert hub.files_sent() == ["model.safetensors"]


def closed_address() -> str:
    """An address of this computer where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.soak  # huggingface_hub tries for 23 seconds
def test_no_connection(tmp_path: Path) -> None:
    answer = fetched(closed_address(), tmp_path / "cache")
    assert answer["code"] == "hub-unreachable"
    assert answer["message"].startswith("no connection to the hub: ")
    assert "Traceback" not in answer["stderr"]


def test_offline_mode_is_named(tmp_path: Path) -> None:
    answer = fetched(closed_address(), tmp_path / "cache", wrapper=("env", "HF_HUB_OFFLINE=1"))
    assert answer["code"] == "hub-offline"
    assert answer["help"] == "unset HF_HUB_OFFLINE"


def test_a_cache_that_is_a_file(fetcher: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    answer = fetcher.fetch("org/model", tmp_path / "cache")
    assert answer["code"] == "hub-cache"
    assert answer["help"] == "set HF_HUB_CACHE to a folder that can be written"


def test_a_full_disk(hub: Hub, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=64k tmpfs {disk}"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-m", "sh", "-c", mount], check=False).returncode:
        pytest.skip("a small disk of its own needs root on Linux")
    wrapper = ("unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh")
    answer = fetched(hub.address, disk / "cache", wrapper=wrapper)
    assert (answer["code"], answer["message"]) == ("disk-full", f"no room is left in {disk / 'cache'}")


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "disk-full"), (errno.EDQUOT, "disk-full"), (errno.EROFS, "hub-cache")]
)
def test_what_the_disk_says(number: int, code: str, tmp_path: Path) -> None:
    found = _explained(OSError(number, os.strerror(number)), "org/model", COMMIT, tmp_path)
    assert found is not None
    assert found.code == code


def test_what_nobody_knows_is_not_explained_away(tmp_path: Path) -> None:
    assert _explained(TypeError("a bug"), "org/model", COMMIT, tmp_path) is None


def test_a_source_that_is_not_on_the_hub_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a source on the hub"):
        fetch(Source(path="specs/models/tiny"), tmp_path)


def old_snapshot(cache: Path, files: dict[str, bytes]) -> Path:
    """A snapshot as huggingface_hub before version 2 left it: without a list of the repository's files."""
    repository = cache / "models--org--model"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, (name, content) in enumerate(files.items()):
        blob = repository / "blobs" / str(number)
        blob.write_bytes(content)
        (folder / name).symlink_to(Path("..", "..", "blobs", str(number)))
    return folder


def test_an_old_snapshot_counts_when_it_is_whole(tmp_path: Path) -> None:
    files = MODEL | {
        "model.safetensors.index.json": INDEX,
        "model-1.safetensors": b"",
        "model-2.safetensors": b"",
    }
    folder = old_snapshot(tmp_path, files)
    assert snapshot_folder(tmp_path, "org/model", COMMIT) == folder


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"config.json": b"{}", "tokenizer.json": b"{}"},
        {"model.safetensors": b"", "tokenizer.json": b"{}"},
        {"config.json": b"{}", "model.safetensors.index.json": INDEX, "model-1.safetensors": b""},
    ],
    ids=["empty", "no weights", "no configuration", "a shard is missing"],
)
def test_an_old_snapshot_that_is_not_whole(tmp_path: Path, files: dict[str, bytes]) -> None:
    old_snapshot(tmp_path, files)
    assert snapshot_folder(tmp_path, "org/model", COMMIT) is None


def test_an_old_snapshot_with_a_download_under_way(tmp_path: Path) -> None:
    old_snapshot(tmp_path, MODEL)
    (tmp_path / "models--org--model" / "blobs" / "abc.incomplete").write_bytes(b"half")
    assert snapshot_folder(tmp_path, "org/model", COMMIT) is None


def test_an_old_snapshot_with_a_dead_link(tmp_path: Path) -> None:
    folder = old_snapshot(tmp_path, MODEL)
    (folder / "tokenizer.json").resolve().unlink()
    assert snapshot_folder(tmp_path, "org/model", COMMIT) is None


def test_a_listed_snapshot_whose_file_was_cut_off(fetcher: Fetcher, tmp_path: Path) -> None:
    folder = Path(fetcher.fetch("org/model", tmp_path)["folder"])
    weights = (folder / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:-1])
    assert snapshot_folder(tmp_path, "org/model", COMMIT) is None


@pytest.mark.parametrize("revision", ["main", "", "..", "0123456789ab", COMMIT.upper(), COMMIT + "\n", "../" * 14])
def test_only_a_full_commit_is_a_snapshot(tmp_path: Path, revision: str) -> None:
    old_snapshot(tmp_path, MODEL)
    assert snapshot_folder(tmp_path, "org/model", revision) is None


def test_what_is_wanted() -> None:
    assert [name for name in MODEL | NEVER if wanted(name)] == list(MODEL)
    assert wanted("onnx/config.json", ("onnx/*",))
    assert not wanted("onnx/run.py", ("onnx/*",))


def test_errors_carry_their_message() -> None:
    error = CommandError("disk-full", "no room", "make room")
    assert (str(error), error.code, error.help) == ("no room", "disk-full", "make room")


SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {{name: chat, project: demo}}
model:
  runner: mlx-lm
  base: {{hf: {name}, revision: {commit}}}
"""


def mlspec_fetch(hub: Hub, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    (folder / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\n")
    (folder / "chat.yaml").write_text(SPEC.format(name=name, commit=COMMIT))
    own = environment(hub.address, folder / "home")
    command = [sys.executable, "-m", "mlspec", "fetch", "chat.yaml"]
    return subprocess.run(command, env=own, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_the_folder(hub: Hub, tmp_path: Path) -> None:
    done = mlspec_fetch(hub, tmp_path, "org/model")
    folder = snapshot_folder(tmp_path / "home" / "hub", "org/model", COMMIT)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{folder}\n", "")


def test_the_command_says_what_is_wrong(hub: Hub, tmp_path: Path) -> None:
    done = mlspec_fetch(hub, tmp_path, "org/none")
    message = "error[hub-not-found]: the hub shows no model 'org/none'\n"
    help = "  help: look at its spelling; for a private one set HF_TOKEN\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message + help)
