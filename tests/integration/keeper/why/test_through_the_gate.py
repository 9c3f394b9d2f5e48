"""A relay asks a keeper that runs; in a module of its own: other tests of causes change the database."""

import uuid

import pytest

from edge_relay.gate.client import GateClient
from edge_relay.why.airflow_side import AirflowSide
from edge_schemas.why.task_query import TaskQuery
from edge_schemas.wire.errors import EdgeError, ErrorCode
from support.airflow.keeper import KEY, Centre
from support.airflow.real_airflow import DAG_ID, RUN_ID, RealAirflow, add_task

pytestmark = [pytest.mark.timeout(180)]


async def test_a_relay_asks_a_running_keeper(airflow: RealAirflow, centre: Centre) -> None:
    """Signed both ways, with names that must be encoded; strangers get nothing."""
    async with GateClient((f"http://127.0.0.1:{centre.keeper.port}",), KEY) as gate:
        side = AirflowSide(gate)
        row = add_task("queued", executor="edge", task_id=f"a b/ü?&{uuid.uuid4().hex[:6]}")
        found = await side.findings(TaskQuery(dag=DAG_ID, run=RUN_ID, task=row.task_id))
        assert (found.state, found.dispatch) == ("queued", row.job)
        with pytest.raises(EdgeError) as refused:
            await side.findings(TaskQuery(dag=DAG_ID, run=RUN_ID, task="none"))
        assert refused.value.code is ErrorCode.NOT_FOUND
    async with GateClient((f"http://127.0.0.1:{centre.keeper.port}",), b"another" * 8) as gate:
        with pytest.raises(EdgeError) as refused:
            await AirflowSide(gate).findings(TaskQuery(dag=DAG_ID, run=RUN_ID, task=row.task_id))
        assert refused.value.code is ErrorCode.GATE_UNAVAILABLE
