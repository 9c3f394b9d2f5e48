"""Lists of policies and accesses as text, the same from `edge-relay` and from `airflow edge-relay`."""

from collections.abc import Iterable, Sequence

from edge_schemas.policies.accesses import Access, AccessCounts
from edge_schemas.policies.policy import Policy, PolicyTarget


def policy_lines(policies: Iterable[tuple[PolicyTarget, Policy]]) -> list[str]:
    """A line for each policy."""
    rows = [
        (
            target.kind,
            target.name,
            policy.mode.value,
            str(sum(map(len, policy.allow.values()))),
            f"{policy.changed_at:%F %H:%M}",
            policy.changed_by,
            policy.reason or "-",
        )
        for target, policy in policies
    ]
    header = ("FOR", "NAME", "MODE", "PATTERNS", "CHANGED (UTC)", "BY", "REASON")
    return _table(header, rows) if rows else ["There is no policy to show. Without one, jobs may use everything."]


def access_lines(accesses: Iterable[Access], others: Iterable[AccessCounts]) -> list[str]:
    """A line for each name, and for each kind of which some calls were counted without a name."""
    rows = [
        (
            one.kind,
            one.name,
            str(one.allowed),
            str(one.would_be_denied),
            str(one.denied),
            f"{one.first_at:%F %H:%M}",
            f"{one.last_at:%F %H:%M}",
            ", ".join((*one.dags, *(["…"] if one.has_more_dags else []))) or "-",
        )
        for one in accesses
    ]
    rows += [
        (one.kind, "(others)", str(one.allowed), str(one.would_be_denied), str(one.denied), "-", "-", "-")
        for one in others
    ]
    header = ("KIND", "NAME", "ALLOWED", "WOULD BE DENIED", "DENIED", "FIRST (UTC)", "LAST (UTC)", "DAGS")
    return _table(header, rows) if rows else ["No use was counted in this time."]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(header), *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _printable(text: str) -> str:
    """Names come from tasks: none may control a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
