"""The data of chips, Macs and working sets: each row as its schema wants it, and a new chip is one row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from mlspec.hardware import profile, tables
from mlspec.hardware.chips import chip_name, find_chip
from mlspec.hardware.machines import products
from mlspec.hardware.tables import row_of, table
from mlspec.hardware.working_set import by_rule
from mlspec.resources import folder

NAMES = ("chips", "machines", "working_set")
ROOT = Path(__file__).parents[2]


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder("schema") / f"{name}.schema.json").read_text(encoding="utf-8"))
    return found


def misfits(name: str, data: Any) -> list[str]:
    return [error.json_path + ": " + error.message for error in Draft202012Validator(schema(name)).iter_errors(data)]


@pytest.mark.parametrize("name", [*NAMES, "machine"])
def test_it_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_data_fits_its_schema(name: str) -> None:
    assert misfits(name, table(name)) == []


def test_the_schema_refuses_what_is_no_row() -> None:
    row = dict(table("chips")["Apple M4"])
    assert misfits("chips", {"Apple M4": row}) == []
    assert misfits("chips", {"Intel i9": row})
    assert misfits("chips", {"Apple M4": {**row, "colour": "blue"}})
    assert misfits("chips", {"Apple M4": {key: row[key] for key in row if key != "source"}})
    assert misfits("chips", {"Apple M4": {**row, "confidence": "uncertain"}}), "it has to say what is uncertain"


@pytest.mark.parametrize("name", [*NAMES, "machine"])
def test_each_key_is_explained(name: str) -> None:
    for key, value in properties(schema(name)):
        assert value["description"].endswith("."), key
        examples = value["examples"]
        assert examples
        assert [e for example in examples for e in Draft202012Validator(value).iter_errors(example)] == []


def properties(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, dict):
        yield from value.get("properties", {}).items() if isinstance(value.get("type"), str) else ()
        for child in value.values():
            yield from properties(child)
    elif isinstance(value, list):
        for child in value:
            yield from properties(child)


def test_the_smallest_variant_comes_first() -> None:
    for name, row in table("chips").items():
        cores = [variant["cores"] for variant in row["gpu"]]
        cpus = [sum(map(int, variant.split("+"))) for variant in row["cpu"]]
        for numbers in (cores, cpus, row["memory_gb"], [variant["bandwidth_gb_s"] for variant in row["gpu"]]):
            assert numbers == sorted(numbers), name


def test_each_chip_is_found_by_its_name() -> None:
    for name, row in table("chips").items():
        found = find_chip(named(name), None).chip
        assert (found.name, found.row, found.known, found.tier) == (name, name, True, row["tier"])


def test_each_mac_has_a_chip_of_the_table_and_its_memory() -> None:
    for model, row in table("machines").items():
        if row["chip"] is not None:
            assert row["chip"] in table("chips"), model
            assert set(row.get("memory_gb", [])) <= set(table("chips")[row["chip"]]["memory_gb"]), model


@pytest.mark.parametrize("row", table("working_set")["measured"], ids=lambda row: f"{row['memory_gb']}-{row['macos']}")
def test_the_rule_says_what_was_measured(row: Mapping[str, Any]) -> None:
    """Within two pages and what the record was rounded by."""
    versions = {"macos-26": ["26.5"], "macos-15": ["15.7", None], "either": ["26.5", "15.7", None]}[row["rule"]]
    for version in versions:
        assert by_rule(row["memory_gb"] * 2**30, version)[0] == pytest.approx(row["bytes"], abs=2 * 16384 + 5000)


def test_an_unknown_macos_gets_least() -> None:
    for memory_gb in range(1, 600):
        least = by_rule(memory_gb * 2**30, None)[0]
        assert least == min(by_rule(memory_gb * 2**30, version)[0] for version in ("14.1", "15.7", "26.1", "31.0"))
        assert 0 < least < memory_gb * 2**30


def test_a_new_chip_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = """
Apple M9 Ultra:
  {generation: 9, tier: ultra, year: 2030, cpu: ["30+10"], gpu: [{cores: 99, bandwidth_gb_s: 3000}], memory_gb: [512],
   neural_engine_cores: 64, metal_family: 15, gpu_architecture: applegpu_g21d, neural_accelerators: true,
   cpu_bf16: true, source: invented, confidence: reported}
"""
    for name in NAMES:
        text = (tables.DATA / f"{name}.yaml").read_text(encoding="utf-8")
        (tmp_path / f"{name}.yaml").write_text(text + (row if name == "chips" else ""), encoding="utf-8")
    assert not find_chip(named("Apple M9 Ultra"), None).chip.known
    monkeypatch.setattr(tables, "DATA", tmp_path)
    tables.table.cache_clear()
    try:
        assert misfits("chips", table("chips")) == []
        found = find_chip(named("m9 ultra"), None)
        assert (found.chip.known, found.chip.bandwidth_gb_s, found.warnings) == (True, 3000, ())
        assert find_chip(named("M10 Ultra"), None).chip.row == "Apple M9 Ultra"
    finally:
        tables.table.cache_clear()


def named(text: str) -> Any:
    name = chip_name(text)
    assert name is not None
    return name


def test_an_origin_leads_to_its_row() -> None:
    assert row_of("data:chips/Apple M2 Max/gpu/1/bandwidth_gb_s") == table("chips")["Apple M2 Max"]
    assert (row_of("data:working_set/macos-26/64-95") or {})["share"] == [81, 100]
    for origin in ("data:chips/Apple M2000", "data:chips/Apple M2 Max/gpu/x", "spec:/targets/0", "data:../x", "", "x:"):
        assert (row_of(origin) or {"source": "x"})["source"]


def test_each_origin_of_a_product_is_there() -> None:
    for product in products():
        for origin in product.machine.origins.values():
            assert row_of(origin), (product.title, origin)


def test_a_profile_may_hold_what_its_schema_says() -> None:
    described = schema("machine")["properties"]
    assert set(described) == {"apiVersion", "kind", *profile.FIELDS}
    for key, (fits, _) in profile.FIELDS.items():
        assert all(map(fits, described[key]["examples"]))


def test_the_wheel_has_the_data() -> None:
    from hatchling.builders.wheel import WheelBuilder

    packed = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"mlspec/hardware/data/{name}.yaml" for name in NAMES} <= packed


def test_the_data_reads_the_same_by_another_parser() -> None:
    for name in NAMES:
        text = (tables.DATA / f"{name}.yaml").read_text(encoding="utf-8")
        assert YAML(typ="safe", pure=True).load(text) == table(name)
