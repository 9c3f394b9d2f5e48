"""Patterns of names in a policy. Names are compared as they are: case-sensitive, and by code points.

`*` stands for any text, also none and also with slashes, `?` for one character, `[abc]` for one of these characters.
There are no negations of patterns: a name is allowed if a pattern matches it.
"""

import fnmatch
import re
from typing import Annotated

from pydantic import AfterValidator, Field

from edge_schemas.wire.ids import check_line

MAX_PATTERN_CHARS = 300
"""A connection id, a variable's key and a DAG id have 250 at most."""
MAX_MATCHED_CHARS = 2_000
"""A longer name is matched by no pattern: an asset's URI has 1,500 characters at most."""
_WILDCARDS = frozenset("*?[")
_SEPARATORS = re.compile(r"[/\\]")

NamePattern = Annotated[
    str,
    Field(min_length=1, max_length=MAX_PATTERN_CHARS, description="Of names: `*`, `?` and `[abc]` as in a shell."),
    AfterValidator(check_line),
]


def is_match(pattern: str, name: str) -> bool:
    """Whether the pattern allows the name.

    A name with a segment `.` or `..` is matched by itself only, never by a wildcard: a secrets backend that makes a
    path of the name would find another secret there than the pattern suggests.
    """
    if len(name) > MAX_MATCHED_CHARS:
        return False
    if not {".", ".."}.isdisjoint(_SEPARATORS.split(name)):
        return pattern == name and _WILDCARDS.isdisjoint(name)
    return fnmatch.fnmatchcase(name, pattern)


def literal(name: str) -> str:
    """The pattern that matches this name and no other."""
    return "".join(f"[{char}]" if char in _WILDCARDS else char for char in name)
