"""Labels and variables that would do harm if anything read them are in the image as they are, and no secret is."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from container.conftest import ROOT, SECRET, build_bundle, build_image
from container.engine import Engine

pytestmark = pytest.mark.container

HOSTILE = [
    "",
    " ",
    " a  b ",
    "it's",
    'say "hi"',
    '"',
    "'",
    "\\",
    "\\\\",
    "ends with \\",
    '\\"',
    "\\n",
    "$HOME",
    "${HOME}",
    "${HOME:-x}",
    "$$",
    "\\$HOME",
    "$(id)",
    "`id`",
    "a=b c=d",
    "# none",
    "a # b",
    '{"a": [1]}',
    "[x]",
    "<<EOF",
    "--x",
    "&& id",
    "; id",
    "| id",
    "%s %(x)s",
    "{{ x }}{% x %}",
    "*",
    "~",
    "é ü \u6f22\u5b57 \U0001f34e",
    "a\u00a0b",
    "\u2019",
]


@pytest.fixture(scope="module")
def hostile_image(containers: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image whose labels and environment would do harm if anything read them; most layers are those of `image`."""
    project = tmp_path_factory.mktemp("hostile")
    shutil.copytree(ROOT / "specs/models", project / "models")
    variables = [{"name": f"HOSTILE_{n}", "value": value} for n, value in enumerate(HOSTILE)]
    spec = {
        "apiVersion": "mlspec/v1",
        "kind": "ModelService",
        "metadata": {
            "name": "hostile",
            "project": "container",
            "description": "\\ $(id) `id` \"'",
            "labels": {f"hostile/{n}": value for n, value in enumerate(HOSTILE)},
        },
        "model": {
            "runner": "lora",
            "base": {"path": "models/tiny"},
            "adapters": [{"name": "support", "path": "models/tiny-support"}],
        },
        "service": {"env": [*variables, {"name": "API_KEY"}]},
        "targets": [{"name": "linux", "platform": "linux"}],
    }
    (project / "mlspec.yaml").write_text("{apiVersion: mlspec/v1, kind: Project}\n")
    (project / "hostile.yaml").write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")  # JSON is YAML
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("API_KEY", SECRET)
        bundle = build_bundle(project, "hostile.yaml", project / "build")
        return build_image(containers, bundle, "hostile:linux")


def test_hostile_labels_and_variables_come_out_as_they_are(containers: Engine, hostile_image: str) -> None:
    said = containers.inspect(hostile_image)["config"]
    assert {key: value for key, value in said["Labels"].items() if key.startswith("hostile/")} == {
        f"hostile/{n}": value for n, value in enumerate(HOSTILE)
    }
    assert sorted(text for text in said["Env"] if text.startswith("HOSTILE_")) == sorted(_assignments())
    seen = containers.podman("run", "--rm", "--network", "none", hostile_image, "env", "--null").split("\0")
    assert set(_assignments()) <= set(seen)


def _assignments() -> list[str]:
    return [f"HOSTILE_{n}={value}" for n, value in enumerate(HOSTILE)]


def test_a_variable_without_a_value_is_asked_for_and_never_kept(containers: Engine, hostile_image: str) -> None:
    assert os.environ.get("API_KEY") != SECRET
    said = json.dumps(containers.inspect(hostile_image))
    assert SECRET not in said
    assert "API_KEY" not in said
    refused = containers.attempt("run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", hostile_image)
    assert refused.returncode != 0
    assert "API_KEY" in refused.stdout + refused.stderr
