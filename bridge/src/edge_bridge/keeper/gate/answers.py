"""Answers that the gate gives itself, in Airflow's form, and which answer the job's record keeps. Pure."""

import orjson

from edge_bridge.keeper.dispatch import TaskRow
from edge_bridge.keeper.gate.upstream import Answer
from edge_schemas.life.model import WriteAnswer

MAX_REMEMBERED_BYTES = 8 * 1024
"""A larger answer is not kept in the record, so a repeat of that write is forwarded again. Airflow tolerates this for
every write with a large answer, in practice `/run`; answers to final states are empty."""
JSON = {"Content-Type": "application/json"}
"""Exactly this value: the SDK takes an error body of any other type, even with a charset, for a network failure."""

NO_CONTENT = Answer(204, b"", {})
NO_SUCH_PATH = Answer(404, b'{"detail":"Not Found"}', JSON)
"""What Airflow's server answers where it has no route: to the SDK nothing has that name."""


def replayed(write: WriteAnswer) -> Answer:
    """The answer to an earlier try of the same write."""
    return Answer(write.status, write.body.encode(), JSON if write.body else {})


def stop_write() -> Answer:
    """Refuses a heartbeat or a write of a job that is to stop: the SDK ends the task."""
    return _refusal(409, reason="not_running", message="The job is to stop", current_state=None)


def stop_read() -> Answer:
    """Refuses a read of a job that is to stop.

    After any other status the SDK returns a default value, and the task continues with it.
    """
    return _refusal(403, reason="not_running", message="The job is to stop")


def not_dispatched(row: TaskRow | None) -> Answer:
    """Refuses the run or the final state of a job that is no longer the current dispatch of its task instance."""
    return _refusal(
        409,
        reason="invalid_state",
        message="This dispatch is not the task instance's current one",
        previous_state=None if row is None else row.state,
    )


def to_remember(request_id: str, answer: Answer, *, is_final_state: bool) -> WriteAnswer | None:
    """What the record keeps of an answer; None if it is too large. Of a final state at least the status is kept.

    A failure of the api-server is no answer that a repeat should get.
    """
    body = answer.body
    if answer.failed:
        return None
    if answer.streamed is not None or len(body) > MAX_REMEMBERED_BYTES:
        if not is_final_state:
            return None
        body = b""
    return WriteAnswer(request_id=request_id, status=answer.status, body=body.decode(errors="replace"))


def _refusal(status: int, **detail: str | None) -> Answer:
    return Answer(status, orjson.dumps({"detail": detail}), JSON)
