"""What the keeper makes of Airflow's database, and of one that does not answer."""

import threading
import uuid
from datetime import UTC, datetime

import pytest

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


async def test_a_database_that_hangs_is_unavailable_and_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of a job would hang with it, and hold that job's later ones."""
    released = threading.Event()

    def hang(_: list[str]) -> dict[str, TaskRow]:
        released.wait(10)
        return {}

    monkeypatch.setattr(dispatch, "LOOK_TIMEOUT_S", 0.1)
    monkeypatch.setattr(dispatch, "_select_by_id", hang)
    with Dispatches() as dispatches:
        try:
            with pytest.raises(DatabaseUnavailable, match="no answer"):
                await dispatches.one(str(uuid.uuid4()))
        finally:
            released.set()
