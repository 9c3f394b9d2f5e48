"""What the keeper makes of Airflow's database, and of one that does not answer."""

import asyncio
import threading
import uuid
from datetime import UTC, datetime

import pytest

from edge_bridge.airflow import database
from edge_bridge.keeper import dispatch
from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatches, TaskRow, has_accepted
from edge_schemas.life.model import new_record
from support.relay.jobs import make_job

RECORD = new_record(make_job())
DISPATCHES = {"own": RECORD.id, "another": str(uuid.uuid4()), "none": None}


@pytest.mark.parametrize(
    ("state", "found", "dispatched", "taken"),
    [
        ("up_for_retry", "up_for_retry", "own", True),
        ("up_for_retry", "scheduled", "own", True),
        ("up_for_retry", "queued", "another", True),
        ("up_for_retry", "restarting", "own", False),
        ("up_for_retry", "running", "own", False),
        ("up_for_retry", "scheduled", "none", False),
        ("deferred", "running", "another", True),
        ("deferred", "failed", "own", False),
        ("success", "success", "own", True),
        ("success", "failed", "own", False),
        ("success", "running", "another", False),
    ],
)
def test_what_became_of_the_task_tells_whether_a_state_was_taken(
    state: str, found: str, dispatched: str, *, taken: bool
) -> None:
    row = TaskRow(found, DISPATCHES[dispatched], datetime.now(UTC))
    assert has_accepted(RECORD, state, row) is taken
    assert not has_accepted(RECORD, state, None)


async def test_a_database_that_hangs_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for those that wait for their turn meanwhile."""
    released = threading.Event()
    monkeypatch.setattr(database, "ANSWER_S", 0.1)
    monkeypatch.setattr(dispatch, "_select_by_id", lambda _: released.wait(10))
    dispatches, ti_id = Dispatches(), str(uuid.uuid4())
    looks = [dispatches.one(ti_id) for _ in range(2 * dispatch.AT_ONCE)]
    for answer in await asyncio.gather(*looks, return_exceptions=True):
        assert isinstance(answer, DatabaseUnavailable)
        assert "no answer" in str(answer)
    monkeypatch.setattr(dispatch, "_select_by_id", lambda ids: {one: TaskRow("queued", None, None) for one in ids})
    assert await dispatches.one(ti_id) == TaskRow("queued", None, None)
    released.set()


async def test_what_goes_wrong_in_the_database_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: list[str]) -> dict[str, TaskRow]:
        raise DatabaseUnavailable("OperationalError")

    monkeypatch.setattr(dispatch, "_select_by_id", fail)
    with pytest.raises(DatabaseUnavailable, match="OperationalError"):
        await Dispatches().one(str(uuid.uuid4()))
