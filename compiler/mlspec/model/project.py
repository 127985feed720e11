"""What `mlspec.yaml` at a project's root says."""

from __future__ import annotations

from pydantic import Field

from mlspec.model.frozen import Frozen


class Root(Frozen):
    """A place outside the project that specs may name: bound by the environment value `env`, or by `--root`."""

    env: str | None = None
    description: str = ""


class ProjectFile(Frozen):
    """`templates` is a folder of the project's own templates, relative to the project. `reproducible` refuses what
    depends on the computer that compiles.
    """

    roots: dict[str, Root] = Field(default_factory=dict)
    templates: str | None = None
    reproducible: bool = False
