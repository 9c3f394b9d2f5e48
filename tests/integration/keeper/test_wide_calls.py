"""The gate in front of a real Execution API: keys of any text, long queries, large bodies."""

import re
from dataclasses import replace
from urllib.parse import quote

import aiohttp
import pytest

from edge_relay.gate.client import GateClient
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.gate.auth import GateCall
from edge_schemas.gate.execution_paths import carry
from edge_schemas.gate.limits import CallLimits
from edge_schemas.wire.routes import GATE_EXECUTION
from edge_service.body_memory import UNCOUNTED
from support.airflow.keeper import KEY, WORKER, Centre, keeper_settings, running_keeper
from support.airflow.real_airflow import DAG_ID, RUN_ID, RealAirflow, TaskIds, add_task
from support.nats.server import eventually

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow

MIB = 1024 * 1024
KEYS = [
    "/data/a.csv",
    "s3://bucket/key",
    "a//b",
    "dir/",
    "C:\\data",
    "100%",
    "a\x85b",
    "a/../b",
    "..",
    "?#;",
    "鍵" * 500,
]


def xcom_keys(ids: TaskIds) -> list[str]:
    """What is in Airflow's database."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session(scoped=False) as session:
        return list(session.scalars(select(XComModel.key).where(XComModel.task_id == ids.task_id)))


def xcom(ids: TaskIds, key: str) -> str:
    """Encoded as by Airflow's client if it quotes the key."""
    return f"xcoms/{DAG_ID}/{RUN_ID}/{ids.task_id}/{quote(key, safe='')}"


@pytest.mark.parametrize("key", KEYS)
async def test_a_key_of_any_text_is_written_read_and_deleted(centre: Centre, key: str) -> None:
    """As a worker's gateway carries it, and percent-encoded."""
    ids = add_task()
    await centre.running(ids)
    carried = carry(("xcoms", DAG_ID, RUN_ID, ids.task_id, *key.split("/")))
    for path in (carried, xcom(ids, key)):
        missing = await centre.relay.call("GET", ids.job, path)
        assert (missing.status, missing.body["detail"]["reason"]) == (404, "not_found")
        assert (await centre.relay.call("POST", ids.job, path, "v")).status == 201
        assert xcom_keys(ids) == [key]
        read = await centre.relay.call("GET", ids.job, path)
        assert (read.status, read.body, read.from_airflow) == (200, {"key": key, "value": "v"}, True)
        assert (await centre.relay.call("DELETE", ids.job, path)).status == 200
        assert xcom_keys(ids) == []


@pytest.mark.parametrize("key", ["/no/such", "s3://x/y", "50%", "a//b"])
async def test_a_missing_name_is_airflow_s_404(centre: Centre, key: str) -> None:
    ids = add_task()
    await centre.running(ids)
    for path in (f"variables/{quote(key)}", f"store/ti/{ids.ti_id}/{quote(key, safe='')}"):
        reply = await centre.relay.call("GET", ids.job, path)
        assert (reply.status, reply.from_airflow, reply.body["detail"]["reason"]) == (404, True, "not_found")


@pytest.mark.parametrize("path", ["connections/a/b", "docs", "variables/a%0Ab", "%2Fhealth%0A", "~fmE"])
async def test_where_airflow_has_no_route_its_answer_is_given(centre: Centre, path: str) -> None:
    """A name that cannot exist is missing: Airflow's client then uses the default."""
    ids = add_task()
    await centre.running(ids)
    reply = await centre.relay.call("GET", ids.job, path)
    assert (reply.status, reply.body, reply.from_airflow) == (404, {"detail": "Not Found"}, True)
    assert reply.headers["Content-Type"] == "application/json"


async def test_a_query_of_60_kib_is_airflow_s_and_a_longer_one_ends_at_the_limit(centre: Centre) -> None:
    ids = add_task()
    await centre.running(ids)
    states = "&".join(f"task_ids=station_{n:05d}.collect_measurements_of_the_hour" for n in range(1, 1150))
    path = f"task-instances/count?dag_id={DAG_ID}&{states}"
    assert 60 * 1024 < len(path) < 64 * 1024
    reply = await centre.relay.call("GET", ids.job, path)
    assert (reply.status, reply.body, reply.from_airflow) == (200, 0, True)
    refused = await centre.relay.call("GET", ids.job, f"{path}&{states}")
    assert (refused.status, refused.code, refused.signed) == (414, "path_too_long", True)
    assert "max_path_bytes = 65536" in refused.body["detail"]


async def test_an_xcom_of_64_mib_is_written_and_read(centre: Centre) -> None:
    ids = add_task()
    await centre.running(ids)
    value = "x" * (64 * MIB)
    assert (await centre.relay.call("POST", ids.job, xcom(ids, "large"), value)).status == 201
    read = await centre.relay.call("GET", ids.job, xcom(ids, "large"))
    assert (read.status, read.signed, len(read.body["value"])) == (200, True, 64 * MIB)


async def test_what_is_above_the_limit_is_refused_with_the_setting(
    centre: Centre, nats: NatsServer, airflow: RealAirflow
) -> None:
    ids = add_task()
    await centre.running(ids)
    assert (await centre.relay.call("POST", ids.job, xcom(ids, "large"), "x" * 2 * MIB)).status == 201
    settings = replace(keeper_settings(nats, airflow), limits=CallLimits(MIB, call_setting="[edge_relay] some_setting"))
    async with running_keeper(settings) as small:
        relay = centre.relay.but(port=small.port)
        sent = await relay.call("POST", ids.job, xcom(ids, "other"), "x" * 2 * MIB)
        received = await relay.call("GET", ids.job, xcom(ids, "large"))
        fits = await relay.call("POST", ids.job, xcom(ids, "fits"), "x" * (MIB - 2))
    for refused in (sent, received):
        assert (refused.status, refused.code) == (413, "payload_too_large")
        assert "more bytes than [edge_relay] some_setting = 1048576" in refused.body["detail"]
    assert fits.status == 201


async def test_answers_that_are_not_read_leave_memory_to_others(
    centre: Centre, nats: NatsServer, airflow: RealAirflow
) -> None:
    """A relay whose worker is slow does not read on. Its next large call is refused, a small one is answered.

    What the keeper has not read counts as well: the api-server holds the rest of the answer.
    """
    ids = add_task()
    await centre.running(ids)
    path = xcom(ids, "large")
    assert (await centre.relay.call("POST", ids.job, path, "x" * 24 * MIB)).status == 201
    settings = replace(keeper_settings(nats, airflow), body_memory_bytes=40 * MIB, worker_body_memory_bytes=40 * MIB)
    call = GateCall("GET", GATE_EXECUTION.format(job=ids.job, path=path), WORKER, "request-0001", b"")
    async with (
        running_keeper(settings) as keeper,
        GateClient((f"http://127.0.0.1:{keeper.port}",), KEY) as slow,
        aiohttp.ClientSession() as session,
    ):
        relay = centre.relay.but(port=keeper.port)
        async with slow.streamed(call, {}, UNCOUNTED) as unread:
            assert unread.streamed is not None
            refused = await relay.call("GET", ids.job, path)
            small = await relay.call("GET", ids.job, xcom(ids, "missing"))
            async with session.get(f"http://127.0.0.1:{keeper.port}/metrics") as scraped:
                metrics = await scraped.text()
        assert (refused.status, refused.code, refused.signed) == (429, "rate_limited", True)
        assert small.status == 404
        assert 'edge_keeper_limited_total{limit="body_memory"} 1.0' in metrics
        [held] = re.findall(r"^edge_keeper_body_bytes (\S+)$", metrics, re.MULTILINE)
        # The systems of keeper and relay have some of the answer.
        assert 12 * MIB <= float(held) < 25 * MIB

        async def is_answered() -> bool:
            return (await relay.call("GET", ids.job, path)).status == 200

        await eventually(is_answered, what="the memory is free again")
