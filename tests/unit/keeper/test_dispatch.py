"""What the keeper makes of Airflow's database, and of one that does not answer."""

import asyncio
import threading
import uuid
from datetime import UTC, datetime

import pytest

from edge_bridge import database
from edge_bridge.keeper import dispatch
from edge_bridge.keeper.dispatch import DatabaseUnavailable, Dispatches, TaskRow, has_taken
from edge_schemas.records import new_record
from support.jobs import make_job

RECORD = new_record(make_job())
OTHER = str(uuid.uuid4())


@pytest.mark.parametrize(
    ("state", "found", "dispatched", "taken"),
    [
        ("up_for_retry", "up_for_retry", RECORD.id, True),
        ("up_for_retry", "scheduled", RECORD.id, True),
        ("up_for_retry", "queued", OTHER, True),
        ("up_for_retry", "restarting", RECORD.id, False),
        ("up_for_retry", "running", RECORD.id, False),
        ("up_for_retry", "scheduled", None, False),
        ("deferred", "running", OTHER, True),
        ("deferred", "failed", RECORD.id, False),
        ("success", "success", RECORD.id, True),
        ("success", "failed", RECORD.id, False),
        ("success", "running", OTHER, False),
    ],
)
def test_what_became_of_the_task_tells_whether_a_state_was_taken(
    state: str, found: str, dispatched: str | None, *, taken: bool
) -> None:
    row = TaskRow(found, dispatched, datetime.now(UTC))
    assert has_taken(RECORD, state, row) is taken
    assert not has_taken(RECORD, state, None)


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
