"""The text of a first spec."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlspec.characters import FORBIDDEN
from mlspec.rendering.environment import environment
from mlspec.rendering.filters import Safe, yaml
from mlspec.resources import folder

LONGEST_NAME = 40

# What every reader of YAML takes for a string without quotes, in a flow map too.
_PLAIN = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null|nan|inf)\Z)[a-z][a-z0-9_./-]*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class BaseModel:
    """The base as a spec's source; without one `hint` stands there as a comment. `note` is told about it."""

    source: dict[str, str] | None
    note: str = ""
    hint: str = "base: {path: models/NAME}"
    context_length: int | None = None


@dataclass(frozen=True)
class Adapter:
    name: str
    path: str


@dataclass(frozen=True)
class FirstSpec:
    """What a first spec says of its model."""

    name: str
    base: BaseModel
    adapter: Adapter | None = None

    def text(self, project: str, schema: str | None) -> str:
        """The spec, commented; `schema` is its schema's place for an editor.

        A user's string stands in it as a YAML scalar, or in printable ASCII in a comment.
        """
        template = environment(folder("templates")).get_template("init/spec.yaml.j2")
        length = self.base.context_length
        rendered = template.render(
            name=scalar(self.name),
            project=scalar(project),
            adapter=self.adapter and {"name": scalar(self.adapter.name), "path": scalar(self.adapter.path)},
            base=self.base.source and _flow_map(self.base.source),
            base_note=in_comment(self.base.note),
            base_hint=in_comment(self.base.hint),
            context_length=length and Safe(length),
            schema=schema and in_comment(schema),
        )
        return str(rendered)


def dns_label(text: str, default: str) -> str:
    """A name made of any text: lower-case letters, digits and single dashes, at most 40."""
    label = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return label[:LONGEST_NAME].rstrip("-") or default


def is_dns_label(text: str) -> bool:
    return len(text) <= LONGEST_NAME and re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", text) is not None


def scalar(text: str) -> Safe:
    """A YAML scalar, in quotes where a reader could take it for something else."""
    return Safe(text) if _PLAIN.match(text) else Safe(FORBIDDEN.sub(lambda m: f"\\u{ord(m[0]):04x}", yaml(text)))


def in_comment(text: str) -> Safe:
    """Text that stays on its line, whatever it holds."""
    return Safe("".join(c if c.isprintable() and c.isascii() else "?" for c in text))


def _flow_map(values: dict[str, str]) -> Safe:
    return Safe("{" + ", ".join(f"{key}: {scalar(value)}" for key, value in values.items()) + "}")
