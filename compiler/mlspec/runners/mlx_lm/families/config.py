"""A model's configuration, read as its family in mlx_lm reads it: names and defaults of its own, nothing believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LARGEST = 2**31 - 1
MOST_LAYERS = 2000
"""No model has a quarter of them; a loop over more would keep a build waiting."""


class UnreadableConfigError(ValueError):
    """A key of a configuration that the family needs and that holds nothing that can be true."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


@dataclass(frozen=True)
class Config:
    """`values` as in config.json; `names` are the family's own keys for the usual ones, `defaults` what it takes
    where a key is missing. `own_head_dim`: the family heeds `head_dim`; the others divide the hidden size.
    """

    values: Mapping[str, Any]
    names: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    own_head_dim: bool = False

    @property
    def layers(self) -> int:
        count = self.count("num_hidden_layers")
        if count > MOST_LAYERS:
            raise UnreadableConfigError("num_hidden_layers")
        return count

    @property
    def hidden(self) -> int:
        return self.count("hidden_size")

    @property
    def heads(self) -> int:
        return self.count("num_attention_heads")

    @property
    def kv_heads(self) -> int:
        return self.optional("num_key_value_heads") or self.heads

    @property
    def head_dim(self) -> int:
        own = self.optional("head_dim") if self.own_head_dim else None
        return own or self.hidden // self.heads

    def count(self, key: str) -> int:
        """A whole number from 1.

        Raises:
            UnreadableConfigError: the key holds none, and the family has no default.
        """
        found = self.optional(key)
        if not found:
            raise UnreadableConfigError(self.names.get(key, key))
        return found

    def optional(self, key: str) -> int | None:
        """A whole number from 0; the family's default, or None, where the key is missing or null."""
        value = self.value(key)
        if value is None:
            return None
        # The type itself: to isinstance, true is a whole number.
        if type(value) is not int or not 0 <= value <= LARGEST:
            raise UnreadableConfigError(self.names.get(key, key))
        return value

    def flag(self, key: str) -> bool:
        value = self.value(key)
        if value is not None and not isinstance(value, bool):
            raise UnreadableConfigError(key)
        return bool(value)

    def listed(self, key: str) -> tuple[Any, ...] | None:
        """A list, None where there is none. Its elements are anything."""
        value = self.value(key)
        if value is None:
            return None
        if not isinstance(value, (list, tuple, str)) or len(value) > MOST_LAYERS:
            raise UnreadableConfigError(key)
        return tuple(value)

    def of_layers(self, key: str) -> tuple[Any, ...]:
        """A list with an element for each layer at least."""
        found = self.listed(key)
        if found is None or len(found) < self.layers:
            raise UnreadableConfigError(key)
        return found[: self.layers]

    def inside(self, key: str) -> Config:
        """A map in the configuration, empty if it is missing."""
        value = self.value(key)
        if value is not None and not isinstance(value, Mapping):
            raise UnreadableConfigError(key)
        return Config(value or {})

    def value(self, key: str) -> Any:
        """What the key holds, whatever it is: the family's default, or None, where it is missing or null."""
        value = self.values.get(self.names.get(key, key))
        return self.defaults.get(key) if value is None else value
