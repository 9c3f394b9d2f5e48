"""The judge finds each kind of fault; else a storm without findings would show nothing."""

from typing import Any

import pytest

from faults.chaos.judge import Try, judge
from faults.chaos.ledger import Instance, Life, Line

TASK = Instance("dag", "run", "work", 7)


def _life(
    *events: str, attempt: int = 1, pid: int = 10, since: float = 0, instance: Instance = TASK, **more: Any
) -> Life:
    """A process that wrote an event each second."""
    lines = (Line(instance, attempt, pid, event, since + n, more) for n, event in enumerate(events))
    return Life(instance, attempt, pid, tuple(lines))


WHOLE = ("begin", "read", "end")


def _judged(lives: list[Life], *states: str | None) -> list[str]:
    tries = [Try(TASK, n, state, is_last=n == len(states)) for n, state in enumerate(states, 1)]
    return judge(lives, tries, right="right")


def test_a_task_that_ends_on_its_first_try_is_right() -> None:
    assert _judged([_life(*WHOLE, value="right")], "success") == []


def test_a_task_that_fails_by_itself_and_then_ends_is_right() -> None:
    lives = [_life("begin", "raise"), _life(*WHOLE, attempt=2, pid=11, since=5, value="right")]
    assert _judged(lives, "failed", "success") == []


@pytest.mark.parametrize(
    ("lives", "states", "finding"),
    [
        pytest.param([_life("begin")], ["success"], "green in Airflow", id="falsely green"),
        pytest.param([], ["success"], "green in Airflow", id="green without having run"),
        pytest.param([_life("begin", "end")], ["failed"], "was the last one", id="falsely red"),
        pytest.param(
            [_life("begin"), _life("begin", "end", attempt=2, pid=11, since=5)],
            ["failed", "success"],
            "did not fail",
            id="a try spent for nothing",
        ),
        pytest.param([_life("begin", "raise")], ["failed"], "was the last one", id="failed for good"),
        pytest.param(
            [_life("begin", "end", attempt=3)], ["failed", "failed", "success"], "try 2 was spent", id="never ran"
        ),
        pytest.param([_life("begin")], ["running"], "has not ended", id="lost while it runs"),
        pytest.param([], [None], "has not ended", id="never queued"),
        pytest.param(
            [_life("begin", "alive", "raise"), _life("begin", "end", attempt=2, pid=11, since=1)],
            ["failed", "success"],
            "twice at once",
            id="twice at once",
        ),
        pytest.param(
            [_life("begin"), _life("begin", "end", pid=11, since=5)], ["success"], "started 2 times", id="started twice"
        ),
        pytest.param([_life(*WHOLE, value="default")], ["success"], "read 'default'", id="a default value"),
        pytest.param([_life("begin", "end")], [], "knows nothing", id="unknown to Airflow"),
    ],
)
def test_the_judge_finds(lives: list[Life], states: list[str | None], finding: str) -> None:
    assert any(finding in found for found in _judged(lives, *states))
