"""What the gate does with an answer that Airflow gives once."""

from datetime import UTC, datetime
from typing import Any

import pytest

from edge_bridge.keeper.gate import holder_call
from edge_bridge.keeper.gate.holder_call import JobCall
from edge_bridge.keeper.gate.passthrough import PassThrough
from edge_bridge.keeper.gate.upstream import Answer, ExecutionCall
from edge_schemas.life.events import Start
from edge_schemas.life.model import JobRecord, new_record
from edge_schemas.life.transition import transition
from edge_schemas.wire.jobs import AuxiliaryKind
from support.nats.server import eventually
from support.relay.jobs import make_auxiliary_job


class Centre:
    """The record of a connection test that a worker has started, and an Airflow that gives its connection once."""

    def __init__(self) -> None:
        now = datetime.now(UTC)
        self.record = transition(new_record(make_auxiliary_job(kind=AuxiliaryKind.CONNECTION_TEST)), Start("w", 1, now))
        self.given = False
        anything: Any = self
        self.gate = PassThrough(anything, anything, anything)

    async def fetch(self, request_id: str) -> Answer:
        """What the worker gets."""
        path = f"connection-tests/{self.record.id}/connection"
        execution = ExecutionCall("GET", path, "", {}, b"")
        return await self.gate.answer(JobCall(self.record.id, "w", request_id, execution))

    async def get(self, _job: str) -> JobRecord:
        return self.record

    async def call(self, *_: object, **__: object) -> Answer:
        self.given, before = True, self.given
        return Answer(409, b"", {}) if before else Answer(200, b"a password", {})


async def test_a_connection_is_given_again_to_a_repeat_only() -> None:
    """The first answer may be lost on its way to the worker."""
    centre = Centre()
    assert [(await centre.fetch("the-first")).status, (await centre.fetch("another-one")).status] == [200, 409]
    assert (await centre.fetch("the-first")).body == b"a password"


async def test_a_connection_is_soon_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder_call, "FETCHED_KEPT_S", 0.01)
    centre = Centre()
    assert (await centre.fetch("the-first")).status == 200
    await eventually(lambda: not centre.gate._parts.fetched)
    assert (await centre.fetch("the-first")).status == 409
