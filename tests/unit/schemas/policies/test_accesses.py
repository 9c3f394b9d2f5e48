"""How counts are added, and which policy follows from them."""

import tomllib
from datetime import UTC, datetime, timedelta

from edge_schemas.policies.accesses import (
    MAX_BATCHES,
    MAX_DAGS,
    MAX_NAMES,
    Access,
    AccessCounts,
    AccessDay,
    add_all,
    add_batch,
    add_day,
)
from edge_schemas.policies.listing import access_lines, policy_lines
from edge_schemas.policies.policy import AccessKind, PolicyFile
from edge_schemas.policies.suggest import as_toml, comments, missing, suggest

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


def access(name: str, allowed: int = 1, *, kind: str = "connection", at: datetime = NOON, **more: object) -> Access:
    return Access.model_validate(
        {"kind": kind, "name": name, "allowed": allowed, "first_at": at, "last_at": at, **more}
    )


def day(*accesses: Access) -> AccessDay:
    return AccessDay(accesses=accesses)


def test_counts_times_and_dags_are_added() -> None:
    later = NOON + timedelta(hours=1)
    first = day(access("a", dags=("d1", "d2")), access("b", 0, denied=2))
    second = day(access("a", 3, at=later, would_be_denied=1, dags=("d2", "d3", "d4")))
    found = add_day(first, second).accesses
    assert found[0] == access("a", 4, last_at=later, would_be_denied=1, dags=("d1", "d2", "d3"), has_more_dags=True)
    assert found[1] == first.accesses[1]
    assert len(found[0].dags) == MAX_DAGS


def test_a_batch_is_added_once() -> None:
    once = add_batch(AccessDay(), "keeper-1", 1, day(access("a")))
    assert add_batch(once, "keeper-1", 1, day(access("a"))) is once
    twice = add_batch(add_batch(once, "keeper-2", 1, day(access("a"))), "keeper-1", 2, day(access("a")))
    assert twice.accesses[0].allowed == 3
    for number in range(2 * MAX_BATCHES):
        twice = add_batch(twice, f"another-{number}", 1, AccessDay())
    assert len(twice.batches) == MAX_BATCHES


def test_a_day_stays_below_what_nats_accepts() -> None:
    """Names as long as they may be, each byte of which is escaped; what does not fit is counted."""
    full = AccessDay()
    for start in range(0, 2 * MAX_NAMES, 100):
        dags = tuple(f"{'ü' * 140}{number}" for number in range(MAX_DAGS))
        names = (access(f"{number:04}{chr(1) * 49}", dags=dags) for number in range(start, start + 100))
        full = add_day(full, day(*names, access("x" * 400)))
    assert len(full.accesses) == MAX_NAMES
    assert sum(other.allowed for other in full.others) == MAX_NAMES + 8
    assert len(full.model_dump_json().encode()) < 1 << 20


def test_days_are_shown_together() -> None:
    others = AccessDay(others=(AccessCounts(kind="variable", denied=1),))
    found, rest = add_all([day(access("b"), access("a")), day(access("a")), others, others])
    assert [(one.name, one.allowed) for one in found] == [("a", 2), ("b", 1)]
    assert rest == [AccessCounts(kind="variable", denied=2)]
    lines = access_lines([access("a\x1b[1m")], rest)
    assert "\x1b" not in "".join(lines)
    assert "(others)" in lines[-1]


def test_a_suggestion_has_exact_names_and_groups_of_many() -> None:
    used = [
        *(access(f"erp_{number}") for number in range(3)),
        *(access(f"plant.{number}", kind="variable") for number in range(20)),
        access("plant", kind="variable"),
        access("odd[*]", kind="variable"),
        access("refused", 0, denied=5),
        access("looked-at", 0, would_be_denied=1),
        access("of a later version", kind="teleport"),
    ]
    policy = suggest(used)
    assert policy.allow == {
        AccessKind.CONNECTION: ("erp_0", "erp_1", "erp_2", "looked-at"),
        AccessKind.VARIABLE: ("odd[[][*]]", "plant", "plant.*"),
    }
    assert suggest(used, group=3).allow[AccessKind.CONNECTION] == ("erp_*", "looked-at")
    assert len(suggest(used, group=0).allow[AccessKind.VARIABLE]) == 22


def test_the_text_of_a_suggestion_is_read_as_the_same_policy() -> None:
    names = ('quote"', "back\\slash", "é\U0001f600", "\x7f", "new\nline", "#", "a" * 290 + "[" * 10)
    used = [access(name) for name in names]
    policy = suggest(used)
    lacking = missing(policy, used, [AccessCounts(kind="variable", allowed=7)])
    text = as_toml(policy, comments("queue 'q'", NOON, used, lacking))
    assert PolicyFile.model_validate(tomllib.loads(text)) == policy
    assert lacking == [
        "3 names of kind connection can't be a pattern",
        "7 calls of kind variable were counted without their names",
    ]
    assert "# Missing here: 3 names" in text


def test_a_list_without_rows_says_what_that_means() -> None:
    """A heading alone could as well mean that nothing could be read."""
    assert access_lines([], []) == ["No use was counted in this time."]
    assert policy_lines([]) == ["There is no policy to show. Without one, jobs may use everything."]
