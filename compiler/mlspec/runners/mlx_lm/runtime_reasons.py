"""What llguidance (1.9) says of a grammar that can't be followed, without what the client or this service wrote."""

from __future__ import annotations

import re

_KEYWORD_TEXT = """
$anchor $defs $dynamicAnchor $dynamicRef $id $ref $schema additionalItems additionalProperties allOf anyOf const
contains contentEncoding contentMediaType contentSchema dependencies dependentRequired dependentSchemas else enum
exclusiveMaximum exclusiveMinimum format if items maxContains maxItems maxLength maxProperties maximum minContains
minItems minLength minProperties minimum multipleOf not oneOf pattern patternProperties prefixItems properties
propertyNames required then type unevaluatedItems unevaluatedProperties uniqueItems
"""
_KEYWORDS = frozenset(_KEYWORD_TEXT.split())
_PLACE = re.compile(r"^at \d+\(\d+\): ")
_FORMAT = re.compile(r"^failed to (?:compile JSON schema|parse \"%json\"): ")
_NO_ANSWER = "no answer can follow it"
_TOO_LARGE = "it is too large, or leaves too many ways open at once"
_OTHER = "it is beyond what can be followed here"
_TOLD = (
    (r"|NoExtension.*", _NO_ANSWER),
    (r"Invalid type.*", "it names a 'type' that doesn't exist"),
    (r"Unknown format.*", "it names a 'format' that isn't known here"),
    (r"Resource '.*", "a '$ref' or '$schema' leads out of it, and nothing is fetched"),
    (r"Pointer '.*", "a '$ref' names what it doesn't have"),
    (r"Unsatisfiable schema: anyOf is empty", "'anyOf' is empty"),
    (r"Unsatisfiable schema: required property.*", "a 'required' property can't be there"),
    (r"Unsatisfiable schema.*", "it contradicts itself"),
    (r"recursion limit exceeded.*", "it is nested too deeply"),
    (r"Schema intersection stack level exceeded.*", "it refers to itself without an end"),
    (r"invalid multiple of.*", "'multipleOf' must be above 0"),
    (r".*hex escape.*|.*surrogate.*", "it has half a surrogate pair"),
    (r"schema must be an object or boolean.*", "each schema in it must be an object or a boolean"),
    (r".*(?:too big|too large|too many|Too many|fuel|has \d+ items).*", _TOO_LARGE),
)
_GREATER = re.compile(r"Unsatisfiable schema: (\w+) \([^()]*\) is greater than (\w+) \([^()]*\)")
_EXPECTED = re.compile(r"Expected ([a-z0-9 ]+) for '(\$?\w+)'.*")
_MUST = re.compile(r"(\$?\w+) must be ((?:an? )?[a-z]+(?: or [a-z]+ of [a-z]+)?)(?:, got .*)?")
_PATTERN = re.compile(r"\nerror: ([A-Za-z ,'-]+)$")


def reason(told: str) -> str:
    """For the client. What isn't known by its form is told in general."""
    told = _FORMAT.sub("", _PLACE.sub("", told.replace("<non-verbose/>", "").strip()))
    if told.startswith("regex parse error"):
        return _of_pattern(told)
    # A grammar's own text follows the first line.
    line = told.partition("\n")[0].strip()
    return _of_keywords(line) or next((told for form, told in _TOLD if re.fullmatch(form, line)), _OTHER)


def _of_pattern(told: str) -> str:
    # The lines behind the reason, if any, are a grammar's, and begin with its line numbers.
    found = _PATTERN.search(re.split(r"\n +\d+ \| ", told)[0].rstrip())
    return f"a 'pattern' can't be read: {found[1]}" if found else "a 'pattern' can't be read"


def _of_keywords(line: str) -> str | None:
    """What is said of keywords that are JSON Schema's own."""
    if line.startswith("Unimplemented keys"):
        keys = [f"'{key}'" for key in re.findall(r'"(\$?\w+)"', line) if key in _KEYWORDS]
        return f"it has keys that can't be followed here: {', '.join(keys)}" if keys else None
    if (found := _GREATER.fullmatch(line)) and {found[1], found[2]} <= _KEYWORDS:
        return f"'{found[1]}' is greater than '{found[2]}'"
    if (found := _EXPECTED.fullmatch(line)) and found[2] in _KEYWORDS:
        return f"'{found[2]}' must be of another type ({'number' if found[1] == 'f64' else found[1]})"
    if (found := _MUST.fullmatch(line)) and found[1] in _KEYWORDS:
        return f"'{found[1]}' must be {found[2]}"
    return None
