"""A policy made of what jobs used, and its text: the form that `policy set --file` reads."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from edge_schemas.policies.accesses import Access, AccessCounts
from edge_schemas.policies.patterns import NamePattern, literal
from edge_schemas.policies.policy import MAX_PATTERNS, AccessKind, PolicyFile, PolicyMode

DEFAULT_GROUP = 20
"""So many names of a kind with the same first part become one pattern."""
_KINDS = frozenset(kind.value for kind in AccessKind)
_PATTERN: TypeAdapter[str] = TypeAdapter(NamePattern)
_FIRST_PART = re.compile(r"[^_./:-]+[_./:-]")


def suggest(accesses: Iterable[Access], *, group: int = DEFAULT_GROUP) -> PolicyFile:
    """A policy that allows what was used and not denied, in mode log.

    Each name is a pattern of its own. Only names with the same first part, which ends with their first `_`, `.`, `/`,
    `:` or `-`, become the pattern of this part and `*`, if there are at least `group` of them.

    Args:
        accesses: By name, each once.
        group: 0 for never.
    """
    names: dict[AccessKind, list[str]] = defaultdict(list)
    for one in accesses:
        if one.kind in _KINDS and _is_used(one) and _is_pattern(literal(one.name)):
            names[AccessKind(one.kind)].append(one.name)
    allow = {kind: _patterns(sorted(names[kind]), group)[:MAX_PATTERNS] for kind in AccessKind if kind in names}
    return PolicyFile(mode=PolicyMode.LOG, allow=allow)


def missing(policy: PolicyFile, accesses: Iterable[Access], others: Sequence[AccessCounts]) -> list[str]:
    """What was used and is not in a suggested policy, as sentences; empty if everything is."""
    odd = Counter(one.kind for one in accesses if _is_used(one) and not _is_pattern(literal(one.name)))
    found = [f"{count} names of kind {kind} can't be a pattern" for kind, count in sorted(odd.items())]
    found += [f"{one.total} calls of kind {one.kind} were counted without their names" for one in others]
    full = [kind for kind, patterns in policy.allow.items() if len(patterns) >= MAX_PATTERNS]
    return found + [f"kind {kind} has {MAX_PATTERNS} patterns, the most: group names" for kind in full]


def as_toml(policy: PolicyFile, comments: Iterable[str] = ()) -> str:
    """The text of a policy, with comments above it."""
    lines = [f"# {comment}" for comment in comments]
    lines += [f"mode = {_quoted(policy.mode)}", "", "[allow]"]
    for kind, patterns in policy.allow.items():
        lines += [f"{kind} = [", *(f"    {_quoted(one)}," for one in patterns), "]"]
    return "\n".join(lines) + "\n"


def comments(target: str, since: datetime, accesses: Sequence[Access], lacking: Iterable[str]) -> list[str]:
    """What stands above a suggested policy."""
    used = [one for one in accesses if _is_used(one)]
    calls = sum(one.allowed + one.would_be_denied for one in used)
    about = f"What the jobs of {target} used since {since:%F}: {len(used)} names in {calls} calls."
    return [about, *(f"Missing here: {one}." for one in lacking)]


def _patterns(names: Sequence[str], group: int) -> tuple[str, ...]:
    by_part: dict[str, list[str]] = defaultdict(list)
    for name in names:
        first = _FIRST_PART.match(name)
        by_part[name if first is None else first[0]].append(name)
    patterns: list[str] = []
    for part, those in by_part.items():
        patterns += [f"{literal(part)}*"] if 0 < group <= len(those) else map(literal, those)
    return tuple(patterns)


def _is_used(access: Access) -> bool:
    """Whether a call was answered."""
    return access.allowed + access.would_be_denied > 0


def _is_pattern(text: str) -> bool:
    """Whether a policy accepts it: a name may be too long, or hold line breaks."""
    try:
        _PATTERN.validate_python(text)
    except ValidationError:
        return False
    return True


def _quoted(text: str) -> str:
    """A basic string of TOML: JSON's, whose pairs of surrogates TOML does not have, and without U+007F."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
