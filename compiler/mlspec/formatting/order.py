"""The order of a spec's keys, as its schema has them. A key takes its comments along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlspec.formatting.scan import Scanned, indent, scanned

ORDERS: Mapping[tuple[str, ...], Sequence[str]] = {
    (): (
        *("apiVersion", "kind", "metadata", "model", "service", "targets", "tests"),
        *("roots", "templates", "reproducible"),
    ),
    ("metadata",): ("name", "project", "description", "labels"),
    ("model",): (
        *("runner", "task", "stages", "base", "adapters", "default_adapter", "max_loaded_adapters"),
        *("chat_template", "system_prompt", "context_length", "quantization", "kv_bits"),
        *("prefill_step", "prompt_cache_mb", "sampling"),
        *("artifacts", "file", "convert", "trusted_types", "methods"),
        *("module", "class", "arguments", "files", "requirements"),
        *("device", "dtype", "compile", "provider", "compute_units", "threads", "trusted", "sha256"),
        *("inputs", "outputs"),
    ),
    ("service",): (
        *("backend", "endpoints", "concurrency", "prefer", "limits", "env"),
        *("auth", "cors", "batching", "inputs", "outputs", "pre", "post", "response_cache", "logging", "tracing"),
    ),
}


@dataclass
class _Map:
    """A block map: where its keys stand, in the text's order, and the line behind it."""

    path: tuple[str, ...]
    column: int
    keys: list[tuple[str, int]] = field(default_factory=list)
    end: int = 0


def ordered(text: str) -> str:
    """The laid-out text with its keys in order.

    Keys that no order names come last, as they stood. Comments above a key go with it; those at the head of the
    file, up to a blank line, and those at the end of a map stay there.
    """
    lines = list(scanned(text).lines)
    for found in sorted(_maps(scanned(text)), key=lambda m: -len(m.path)):
        _sort(lines, found, ORDERS[found.path])
    return "\n".join(lines)


def _maps(scanned: Scanned) -> list[_Map]:
    """The block maps whose keys have an order."""
    found, stack, flow_depth = list[_Map](), list[_Map](), 0
    tokens = scanned.tokens
    for number, token in enumerate(tokens):
        flow_depth += token.kind.startswith("Flow") * (token.kind.endswith("Start") - token.kind.endswith("End"))
        if token.kind in ("BlockMappingStart", "BlockSequenceStart"):
            stack.append(_Map(_path(stack, token.kind), scanned.column(token.start)))
        elif token.kind == "BlockEnd":
            closed = stack.pop()
            closed.end = scanned.line(token.start)
            found.append(closed)
        elif token.kind == "Key" and not flow_depth:
            name = next((t.value for t in tokens[number + 1 : number + 4] if t.kind == "Scalar"), "")
            stack[-1].keys.append((name, scanned.line(token.start)))
    return [m for m in found if m.path in ORDERS]


def _path(stack: Sequence[_Map], kind: str) -> tuple[str, ...]:
    """The path of the block that opens now; lists and what is in them get one that no order has."""
    if kind == "BlockSequenceStart":
        return ("-",)
    if not stack:
        return ()
    return (*stack[-1].path, stack[-1].keys[-1][0] if stack[-1].keys else "-")


def _sort(lines: list[str], found: _Map, order: Sequence[str]) -> None:
    rank = {name: number for number, name in enumerate(order)}
    ranks = [rank.get(name, len(order)) for name, _ in found.keys]
    if ranks == sorted(ranks):
        return
    starts = [_start(lines, line, found.column) for _, line in found.keys]
    starts[0] = _first_start(lines, found)
    end = _content_end(lines, found)
    parts = [lines[a:b] for a, b in zip(starts, (*starts[1:], end), strict=True)]
    chosen = sorted(range(len(parts)), key=lambda number: ranks[number])
    lines[starts[0] : end] = [line for number in chosen for line in parts[number]]


def _start(lines: Sequence[str], line: int, column: int) -> int:
    """The first line of the comments and blank lines above a key that go with it."""
    while line > 0 and (not lines[line - 1].strip() or _is_comment(lines[line - 1], column)):
        line -= 1
    return line


def _first_start(lines: Sequence[str], found: _Map) -> int:
    """The head of the file, up to a blank line, stays; so do blank lines."""
    first = found.keys[0][1]
    start = _start(lines, first, found.column)
    if not found.path:
        blanks = [n for n in range(start, first) if not lines[n].strip()]
        start = blanks[-1] + 1 if blanks else first
    return start


def _content_end(lines: Sequence[str], found: _Map) -> int:
    """The line behind what the last key takes along: comments below it, indented like the keys, end the map."""
    end = min(found.end, len(lines))
    last = found.keys[-1][1]
    while end > last + 1 and (not lines[end - 1].strip() or indent(lines[end - 1]) < found.column):
        end -= 1
    while end > last + 1 and (not lines[end - 1].strip() or _is_comment(lines[end - 1], found.column)):
        end -= 1
    return end


def _is_comment(line: str, column: int) -> bool:
    stripped = line.lstrip(" ")
    return stripped.startswith("#") and indent(line) == column
