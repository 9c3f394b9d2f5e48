"""Airflow's database is asked without waiting for it longer than can be borne."""

import asyncio
import threading

import pytest
from airflow import settings

from edge_bridge.airflow import database


async def test_questions_that_hang_hold_up_neither_others_nor_the_end_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind a link that drops everything; a scheduler's executor asks again and again, and has a few threads' pool."""
    released = threading.Event()
    engine = settings.engine
    assert engine is not None
    connections = engine.pool
    monkeypatch.setattr(database, "ANSWER_S", 0.1)
    hanging = [database.run_query(lambda: released.wait(10)) for _ in range(40)]
    answers = await asyncio.gather(*hanging, return_exceptions=True)
    assert all(isinstance(answer, TimeoutError) for answer in answers)
    stuck = [thread for thread in threading.enumerate() if thread.name == "edge-relay-database"]
    assert len(stuck) >= len(hanging)
    assert all(thread.daemon for thread in stuck)
    monkeypatch.setattr(database, "ANSWER_S", 5)
    assert await database.run_query(lambda: "an answer") == "an answer"
    assert engine.pool is not connections, "the next question would go by a connection that is stuck too"
    released.set()
    for thread in stuck:
        thread.join(5)


async def test_what_goes_wrong_reaches_whoever_asks() -> None:
    def fail() -> None:
        raise LookupError("no such table")

    with pytest.raises(LookupError, match="no such table"):
        await database.run_query(fail)
