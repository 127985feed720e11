"""The runner `sklearn`: real models, saved by skops or as ONNX, and files that make what nobody trusts."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC

from frameworks.built import build, plan_of, serving
from mlspec.runners.sklearn.skops_file import read_skops
from payloads import Payload

pytestmark = pytest.mark.frameworks

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {{name: flowers, project: tests}}
model:
  runner: {runner}
  artifacts: {{path: model}}
{more}
targets: [{{name: here, platform: linux, machine: {{memory_gb: 8, cpus: 2}}}}]
"""
SIGNATURE = """\
  inputs: [{name: flowers, dtype: float64, shape: [batch, 4]}]
  outputs:
    - {name: species, dtype: int64, shape: [batch]}
    - {name: probabilities, dtype: float64, shape: [batch, 3]}
"""
FLOWERS, SPECIES = load_iris(return_X_y=True)
TREE = "sklearn.tree._tree.Tree"
PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"


def saved(folder: Path, model: Any, name: str = "model.skops") -> Path:
    (folder / "model").mkdir(exist_ok=True)
    skops.io.dump(model, folder / "model" / name)
    return folder / "model" / name


def built(folder: Path, more: str, runner: str = "sklearn") -> Path:
    bundle, told = build(folder, SPEC.format(runner=runner, more=more.rstrip("\n")))
    assert bundle, told
    return bundle


def refused(folder: Path, more: str = SIGNATURE) -> str:
    bundle, told = build(folder, SPEC.format(runner="sklearn", more=more.rstrip("\n")))
    assert bundle is None
    return told


def answers(bundle: Path, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    async def ask() -> list[dict[str, Any]]:
        async with serving(bundle) as service:
            found = await asyncio.gather(*(service.client.post("/predict", json={"inputs": r}) for r in requests))
            assert [one.status_code for one in found] == [200] * len(found), found[0].text
            return [one.json()["outputs"] for one in found]

    return asyncio.run(ask())


def reason(bundle: Path) -> str:
    """Why the service doesn't start."""

    async def ask() -> str:
        async with serving(bundle, wait=False) as service:
            while service.model._problem is None:
                await asyncio.sleep(0.01)
            return service.model._problem.message

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("model", "trusted"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression()), ""),
        (make_pipeline(PolynomialFeatures(2), GaussianNB()), ""),
        (SVC(), None),
        (KNeighborsClassifier(algorithm="brute"), ""),
        (RandomForestClassifier(5, random_state=0), f"  trusted_types: [{TREE}]\n"),
        (HistGradientBoostingClassifier(max_iter=5), f"  trusted_types: [{PREDICTOR}]\n"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_model_gives_what_it_gives_here(tmp_path: Path, model: Any, trusted: str | None) -> None:
    model.fit(FLOWERS, SPECIES)
    path = saved(tmp_path, model)
    more, method = SIGNATURE, "predict_proba"
    if trusted is None:
        more, method = SIGNATURE.replace("probabilities", "scores"), "decision_function"
    output = "scores" if trusted is None else "probabilities"
    untrusted = set(read_skops(path).untrusted)
    assert untrusted == set(skops.io.get_untrusted_types(file=path)), "as skops itself says"
    bundle = built(tmp_path, (trusted or "") + more)
    parts = np.array_split(FLOWERS, 4)
    found = answers(bundle, *({"flowers": part.tolist()} for part in parts))
    np.testing.assert_array_equal(np.concatenate([one["species"] for one in found]), model.predict(FLOWERS))
    given = np.concatenate([one[output] for one in found])
    np.testing.assert_allclose(given, getattr(model, method)(FLOWERS), rtol=1e-12)


def test_the_same_model_by_onnx(tmp_path: Path) -> None:
    from skl2onnx import to_onnx

    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(FLOWERS, SPECIES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = to_onnx(model, FLOWERS[:1].astype(np.float32), options={"zipmap": False}, target_opset=20)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "flowers.onnx").write_bytes(made.SerializeToString())
    probabilities = "{name: probabilities, shape: [batch, 3]}"
    outputs = f"  outputs: [{{name: label, dtype: int64, shape: [batch]}}, {probabilities}]\n"
    bundle = built(tmp_path, outputs, runner="onnx")
    assert plan_of(bundle)["runtime"]["runner"]["settings"]["batching"]["max_rows"] > 1
    (found,) = answers(bundle, {"X": FLOWERS.tolist()})
    assert found["label"] == model.predict(FLOWERS).tolist()
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(FLOWERS), atol=1e-5)


def test_texts_to_vectors(tmp_path: Path) -> None:
    texts = ["where is my order", "how do I pay", "the order is late", "pay by card", "a late order"]
    model = make_pipeline(TfidfVectorizer(), TruncatedSVD(3, random_state=0)).fit(texts)
    path = saved(tmp_path, model)
    types = read_skops(path).untrusted
    assert set(types) == set(skops.io.get_untrusted_types(file=path))
    more = (
        f"  task: embed\n  trusted_types: [{', '.join(types)}]\n"
        "  inputs: [{name: text, dtype: string, shape: [batch]}]\n"
        "  outputs: [{name: embedding, dtype: float32, shape: [batch, 3]}]\n"
    )
    (found,) = answers(built(tmp_path, more), {"text": texts})
    np.testing.assert_allclose(found["embedding"], model.transform(texts), atol=1e-6)


def test_labels_that_are_texts_and_a_method_by_name(tmp_path: Path) -> None:
    names = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
    saved(tmp_path, GaussianNB().fit(FLOWERS, names))
    more = (
        "  methods: {sure: predict_log_proba}\n"
        "  inputs: [{name: flowers, dtype: float64, shape: [batch, 4]}]\n"
        "  outputs:\n    - {name: species, dtype: string, shape: [batch]}\n"
        "    - {name: sure, dtype: float64, shape: [batch, 3]}\n"
    )
    (found,) = answers(built(tmp_path, more), {"flowers": FLOWERS[:3].tolist()})
    assert found["species"] == ["setosa"] * 3
    assert all(max(row) > -1e-3 for row in found["sure"])


def test_a_method_that_the_model_lacks_is_told_at_start(tmp_path: Path) -> None:
    saved(tmp_path, make_pipeline(StandardScaler(), SVC()).fit(FLOWERS, SPECIES))
    assert "has no predict_proba, which was to give the output probabilities" in reason(built(tmp_path, SIGNATURE))


ESTIMATORS = [
    MLPClassifier((4,), max_iter=5, random_state=np.random.RandomState(1)),
    IsolationForest(n_estimators=3, random_state=0),
    make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()),
    make_pipeline(FunctionTransformer(np.save), LogisticRegression()),
    make_pipeline(FunctionTransformer(subprocess.getoutput), LogisticRegression()),
]


@pytest.mark.parametrize("model", ESTIMATORS, ids=lambda model: type(model).__name__)
def test_untrusted_types_are_those_that_skops_tells(tmp_path: Path, model: Any) -> None:
    if not hasattr(model, "steps"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(FLOWERS, SPECIES)
    path = saved(tmp_path, model)
    assert set(read_skops(path).untrusted) == set(skops.io.get_untrusted_types(file=path))


def test_functions_of_others_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, make_pipeline(FunctionTransformer(subprocess.getoutput), LogisticRegression()))
    told = refused(tmp_path)
    assert "error[untrusted-types]" in told
    assert "'subprocess.getoutput'" in told


def test_what_passes_the_build_is_checked_again_as_it_is_loaded(tmp_path: Path) -> None:
    saved(tmp_path, RandomForestClassifier(2).fit(FLOWERS, SPECIES))
    bundle = built(tmp_path, f"  trusted_types: [{TREE}]\n{SIGNATURE}")
    runner = plan_of(bundle)["runtime"]["runner"]
    runner |= {"module": "mlspec.runners.sklearn.runtime"}
    runner["settings"]["model"]["trusted_types"] = []

    async def ask() -> str:
        async with serving(bundle, wait=False, runner=runner) as service:
            while service.model._problem is None:
                await asyncio.sleep(0.01)
            return service.model._problem.message

    told = asyncio.run(ask())
    assert "Untrusted types found in the file" in told
    assert TREE in told


def test_another_number_of_columns(tmp_path: Path) -> None:
    saved(tmp_path, make_pipeline(StandardScaler(), LogisticRegression()).fit(FLOWERS, SPECIES))
    told = refused(tmp_path, SIGNATURE.replace("[batch, 4]", "[batch, 5]"))
    assert "error[wrong-signature]: the model was trained with 4 columns, and 5 are declared" in told


def test_a_file_of_another_scikit_learn(tmp_path: Path) -> None:
    path = saved(tmp_path, LogisticRegression(max_iter=1000).fit(FLOWERS, SPECIES))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["schema.json"] = members["schema.json"].replace(b'"\\"1.9.', b'"\\"1.2.')
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    told = refused(tmp_path)
    assert "error[model-version]: 'model.skops' was saved by scikit-learn 1.2." in told
    assert "requirements: [scikit-learn==1.2." in told


PICKLES = {
    "pickle": lambda path, model: path.with_suffix(".pkl").write_bytes(pickle.dumps(model)),
    "joblib": lambda path, model: joblib.dump(model, path.with_suffix(".joblib")),
    "joblib, zlib": lambda path, model: joblib.dump(model, path.with_suffix(".joblib"), compress=3),
    "joblib, lzma": lambda path, model: joblib.dump(model, path.with_suffix(".joblib"), compress=("xz", 3)),
    "called skops": lambda path, model: path.write_bytes(pickle.dumps(model)),
    "joblib, called skops": lambda path, model: joblib.dump(model, path, compress=("bz2", 3)),
}


@pytest.mark.parametrize("save", PICKLES.values(), ids=list(PICKLES))
@pytest.mark.parametrize("bad", [False, True])
def test_pickles_are_refused(tmp_path: Path, save: Any, bad: bool) -> None:
    (tmp_path / "model").mkdir()
    model = Payload(tmp_path / "ran") if bad else LogisticRegression(max_iter=1000).fit(FLOWERS, SPECIES)
    save(tmp_path / "model" / "model.skops", model)
    told = refused(tmp_path)
    assert "error[pickle]" in told
    assert "skops.io.dump" in told
    assert not (tmp_path / "ran").exists()


def test_what_is_no_file_of_skops(tmp_path: Path) -> None:
    path = saved(tmp_path, LogisticRegression())
    whole = path.read_bytes()
    schemas = [b"[]", b"{}", b'{"protocol": "2"}', b"no json", json.dumps({"protocol": 2}).encode(), b"[" * 100_000]
    for content in (b"text", whole[:-30], whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert "error[bad-model-file]" in refused(tmp_path) or "error[pickle]" in refused(tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    assert "is cut off" in refused(tmp_path)
    for schema in schemas:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("schema.json", schema)
        assert "error[bad-model-file]" in refused(tmp_path)


def test_the_list_of_trusted_types_is_that_of_the_installed_skops() -> None:
    tool = Path(__file__).parents[1] / "tools" / "skops_types.py"
    assert subprocess.run([sys.executable, str(tool), "--check"], check=False).returncode == 0
