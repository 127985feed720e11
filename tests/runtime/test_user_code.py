"""The user's modules in a bundle: alone, beside others, and in packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.user_code import user_class, user_function


@pytest.fixture(autouse=True)
def forgotten(tmp_path: Path) -> Iterator[None]:
    """What a test imports of its own files is forgotten."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """The user's files in a bundle."""
    (tmp_path / "bundle/user").mkdir(parents=True)
    (tmp_path / "bundle/plan.json").write_text("{}")
    return tmp_path / "bundle/user"


def write(user: Path, **files: str) -> None:
    """Files by their paths, with `__` for `/`."""
    for name, text in files.items():
        path = user / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def package(user: Path, *folders: str) -> None:
    for folder in folders:
        (user / folder).mkdir(parents=True, exist_ok=True)
        (user / folder / "__init__.py").write_text("")


def test_what_lies_beside_a_module_and_at_the_projects_root_can_be_imported(user: Path) -> None:
    write(
        user,
        models__net="import beside_u1, shop_u1.prices\nclass Net:\n    got = beside_u1.A, shop_u1.prices.B\n",
        models__beside_u1="A = 1\n",
        shop_u1__prices="B = 2\n",
    )
    assert user_class(user / "models/net.py", "Net").got == (1, 2)


def test_a_module_of_a_package_imports_relatively(user: Path) -> None:
    package(user, "src/shop_u2", "src/shop_u2/nets")
    net = "from ..layers import Dense\nfrom . import sizes\nimport shop_u2.layers\n"
    net += "class Net(Dense):\n    same = shop_u2.layers.Dense is Dense\n    size = sizes.SIZE\n"
    write(user, src__shop_u2__nets__net=net, src__shop_u2__nets__sizes="SIZE = 3\n")
    write(user, src__shop_u2__layers="class Dense:\n    pass\n")
    net_class = user_class(user / "src/shop_u2/nets/net.py", "Net")
    assert (net_class.same, net_class.size, net_class.__module__) == (True, 3, "shop_u2.nets.net")
    assert user_class(user / "src/shop_u2/nets/net.py", "Net") is net_class


def test_a_package_that_is_called_as_another(user: Path) -> None:
    package(user, "json")
    write(user, json__net="class Net:\n    pass\n")
    with pytest.raises(ServiceError, match=r"the package json of net.py is called as another one is .*; rename it"):
        user_class(user / "json/net.py", "Net")


def test_a_module_is_run_once_and_two_of_one_name_are_two(user: Path) -> None:
    write(user, a__model="class Model:\n    place = 'a'\n", b__model="class Model:\n    place = 'b'\n")
    first, second = (user_class(user / folder / "model.py", "Model") for folder in ("a", "b"))
    assert (first.place, second.place) == ("a", "b")
    assert user_class(user / "a/model.py", "Model") is first


def test_a_module_may_be_called_as_an_installed_one(user: Path) -> None:
    write(user, numpy="class Net:\n    pass\n")
    import numpy

    assert user_class(user / "numpy.py", "Net").__module__ == "mlspec_user_numpy"
    assert sys.modules["numpy"] is numpy


def test_functions_too(user: Path) -> None:
    write(user, steps="def double(x):\n    return 2 * x\nTHREE = 3\n")
    assert user_function(user / "steps.py", "double")(2) == 4
    with pytest.raises(ServiceError, match="has no function THREE"):
        user_function(user / "steps.py", "THREE")
    with pytest.raises(ServiceError, match="has no class Net"):
        user_class(user / "steps.py", "Net")
    with pytest.raises(ServiceError, match=r"there is no other.py in the bundle"):
        user_class(user / "other.py", "Net")


def test_a_module_that_fails_is_tried_again(user: Path) -> None:
    write(user, net="raise ValueError('not yet')\n")
    with pytest.raises(ValueError, match="not yet"):
        user_class(user / "net.py", "Net")
    write(user, net="class Net:\n    pass\n")
    assert user_class(user / "net.py", "Net").__name__ == "Net"


def test_outside_of_a_bundle_the_modules_folder_is_the_root(tmp_path: Path) -> None:
    write(
        tmp_path, deep__user__net="import beside_u3\nclass Net:\n    got = beside_u3.A\n", deep__user__beside_u3="A = 1"
    )
    assert user_class(tmp_path / "deep/user/net.py", "Net").got == 1
    assert str(tmp_path) not in sys.path
