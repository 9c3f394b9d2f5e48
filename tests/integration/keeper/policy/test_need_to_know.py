"""What a job may use of a real Airflow, by the policies of its queue and of its worker's site."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiohttp
import pytest
from prometheus_client import generate_latest

from edge_bridge.keeper.policy import access_counter
from edge_bridge.keeper.service import running_parts
from edge_bridge.keeper.tokens import mint_from_config
from edge_broker.bucket import Bucket
from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.layout import stream_configs
from edge_broker.permissions import ADMIN, EXECUTOR, KEEPER, OPERATOR, READER, RELAY
from edge_broker.policies.access_store import AccessStore
from edge_broker.policies.policy_store import PolicyStore
from edge_broker.subjects import ACCESSES_BUCKET, POLICIES_BUCKET, RECORDS_BUCKET
from edge_relay.standalone.nats_server import NatsServer
from edge_schemas.life.model import JobRecord
from edge_schemas.policies.accesses import Access, add_all
from edge_schemas.policies.policy import Policy, PolicyMode, PolicyTarget
from edge_schemas.wire.jobs import AuxiliaryKind
from support.airflow.keeper import Centre, FakeRelay, GateReply, keeper_settings, poll, running_keeper
from support.airflow.real_airflow import DAG_ID, RUN_ID, RealAirflow, TaskIds, add_task
from support.nats.server import connected, eventually

pytestmark = pytest.mark.timeout(180)  # the first one starts Airflow

QUEUE = PolicyTarget("queue", "edge")
SITE = PolicyTarget("site", "somewhere")
SECRET = "a-password-that-no-list-may-show"


@pytest.fixture(scope="module", autouse=True)
def names(airflow: RealAirflow) -> None:
    """Connections and variables in Airflow's database."""
    from airflow.models import Connection, Variable
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        for conn in ("erp_main", "payroll"):
            session.add(Connection(conn_id=conn, conn_type="http", password=SECRET))
        for key in ("plant.rate", "plant.a/b", "plant.ü%2F", "other"):
            session.add(Variable(key=key, val=SECRET))  # type: ignore[no-untyped-call]  # Airflow leaves it so


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_counter, "FLUSH_S", 0.05)


@pytest.fixture
async def admin(nats: NatsServer) -> AsyncIterator[Broker]:
    """NATS as the commands of policies use it."""
    async with connected(nats, KEEPER) as broker:
        yield broker


def policy(mode: PolicyMode = PolicyMode.ENFORCE, /, **allow: tuple[str, ...]) -> Policy:
    return Policy(mode=mode, allow=allow, changed_at=datetime.now(UTC), changed_by="a test")


async def put(centre: Centre, admin: Broker, target: PolicyTarget, wanted: Policy | None) -> None:
    """Set a policy, and wait until the keeper has it."""
    store = PolicyStore(admin)
    revision = (await store.get(target)).revision
    if wanted is None:
        await store.remove(target, revision=revision)
    else:
        await store.put(target, wanted, revision=revision)
    view = centre.keeper._need_to_know.view
    await eventually(lambda: view._policies.get(target) == wanted, what="the policy at the keeper")


async def task(centre: Centre, queue: str = "edge") -> TaskIds:
    """A task that runs."""
    ids = add_task(queue=queue)
    await centre.running(ids)
    return ids


async def listed(admin: Broker, target: PolicyTarget, count: int) -> dict[tuple[str, str], Access]:
    """What the list of accesses has, once it has so many calls."""
    store = AccessStore(admin)
    found: list[Access] = []

    async def is_there() -> bool:
        nonlocal found
        found, _ = add_all(await store.days(target, since=datetime.now(UTC)))
        return sum(one.total for one in found) >= count

    await eventually(is_there, what="the accesses")
    return {(one.kind, one.name): one for one in found}


def counts(access: Access) -> tuple[int, int, int]:
    return access.allowed, access.would_be_denied, access.denied


def says(reply: GateReply) -> tuple[int, str]:
    return reply.status, "" if reply.from_airflow else reply.code


async def test_a_job_reads_what_its_queue_allows_and_is_refused_the_rest(centre: Centre, admin: Broker) -> None:
    await put(centre, admin, QUEUE, policy(connection=("erp_*",), variable=("plant.*",)))
    ids = await task(centre)
    expected = {
        "connections/erp_main": 200,
        "connections/payroll": 403,
        "connections/absent": 403,  # not 404: a task must not read a default value instead
        "variables/plant.rate": 200,
        "variables/other": 403,
    }
    for path, status in expected.items():
        reply = await centre.relay.call("GET", ids.job, path)
        assert says(reply) == ((200, "") if status == 200 else (403, "policy_denied")), path
    assert (await centre.relay.call("GET", ids.job, "connections/payroll")).body["detail"] == (
        "the policy of queue 'edge' does not allow connection 'payroll'. "
        "To allow it: airflow edge-relay policy set --queue edge --allow connection=payroll"
    )
    put_variable = await centre.relay.call("PUT", ids.job, "variables/plant.rate", {"value": "1"})
    assert says(put_variable) == (403, "policy_denied"), "to read a variable is not to write it"
    own = f"xcoms/{DAG_ID}/{RUN_ID}/{ids.task_id}/k"
    assert (await centre.relay.call("POST", ids.job, own, "v")).status == 201
    assert (await centre.relay.call("GET", ids.job, own)).status == 200
    assert (await centre.relay.call("PUT", ids.job, f"task-instances/{ids.ti_id}/rtif", {"a": "b"})).status == 201
    found = await listed(admin, QUEUE, 7)
    assert {name: counts(one) for name, one in found.items()} == {
        ("connection", "erp_main"): (1, 0, 0),
        ("connection", "payroll"): (0, 0, 2),
        ("connection", "absent"): (0, 0, 1),
        ("variable", "plant.rate"): (1, 0, 0),
        ("variable", "other"): (0, 0, 1),
        ("set_variable", "plant.rate"): (0, 0, 1),
    }
    assert {one.dags for one in found.values()} == {(DAG_ID,)}


async def test_every_kind_of_call_is_judged(centre: Centre, admin: Broker) -> None:
    """With an empty policy everything that has a kind is denied; the same calls are allowed by one that names them."""
    ids = await task(centre)
    outlet = {"name": "stock", "uri": "s3://stock", "type": "Asset"}
    success = {"state": "success", "end_date": datetime.now(UTC).isoformat(), "outlet_events": []}
    ask = {"ti_id": ids.ti_id, "options": ["a"], "subject": "?", "params": {}, "multiple": False, "defaults": None}
    calls: list[tuple[str, str, str, str, object]] = [
        ("connection", "erp_main", "GET", "connections/erp_main", None),
        ("variable", "other", "GET", "variables/other", None),
        ("set_variable", "new", "PUT", "variables/new", {"value": "1"}),
        ("delete_variable", "new", "DELETE", "variables/new", None),
        ("xcom", "elsewhere", "GET", "xcoms/elsewhere/r/t/k", None),
        ("xcom", "elsewhere", "HEAD", "xcoms/elsewhere/r/t/k", None),
        ("xcom", "elsewhere", "GET", "xcoms/elsewhere/r/t/k/item/0", None),
        ("trigger_dag_run", "elsewhere", "POST", "dag-runs/elsewhere/r2", {}),
        ("clear_dag_run", "elsewhere", "POST", "dag-runs/elsewhere/r2/clear", None),
        ("asset_store", "stock", "GET", "store/asset/by-name/value?name=stock&key=k", None),
        ("asset_store", "s3://stock", "DELETE", "store/asset/by-uri/clear?uri=s3%3A%2F%2Fstock", None),
        ("ask", DAG_ID, "POST", f"hitlDetails/{ids.ti_id}", ask),
        ("asset_event", "stock", "PATCH", f"task-instances/{ids.ti_id}/state", {**success, "task_outlets": [outlet]}),
    ]
    await put(centre, admin, QUEUE, policy())
    for kind, _, method, path, body in calls:
        reply = await centre.relay.call(method, ids.job, path, body)
        assert reply.status == 403, (kind, path, reply)
        assert method == "HEAD" or reply.code == "policy_denied"
    allowed: dict[str, tuple[str, ...]] = {}
    for kind, name, *_ in calls:
        allowed[kind] = (*allowed.get(kind, ()), name)
    await put(centre, admin, QUEUE, policy(**allowed))
    for kind, _, method, path, body in calls:
        reply = await centre.relay.call(method, ids.job, path, body)
        assert reply.from_airflow, (kind, path, reply)


async def test_log_mode_changes_nothing_but_the_list(centre: Centre, admin: Broker) -> None:
    ids = await task(centre)
    paths = ("connections/erp_main", "connections/payroll", "variables/other", "variables/absent")
    before = [await centre.relay.call("GET", ids.job, path) for path in paths]
    await put(centre, admin, QUEUE, policy(PolicyMode.LOG, connection=("erp_*",)))
    after = [await centre.relay.call("GET", ids.job, path) for path in paths]
    assert [(one.status, one.body) for one in after] == [(one.status, one.body) for one in before]
    await put(centre, admin, QUEUE, policy(PolicyMode.OFF))
    await centre.relay.call("GET", ids.job, "connections/payroll")
    found = await listed(admin, QUEUE, 9)
    assert counts(found["connection", "erp_main"]) == (2, 0, 0)
    assert counts(found["connection", "payroll"]) == (2, 1, 0)
    assert counts(found["variable", "absent"]) == (1, 1, 0)


async def test_the_policy_of_the_site_applies_as_well(centre: Centre, admin: Broker) -> None:
    """A call must be allowed by each policy that enforces, and is counted for both."""
    ids = await task(centre)
    await put(centre, admin, SITE, policy(connection=("erp_main",)))
    unknown = await centre.relay.call("GET", ids.job, "connections/erp_main")
    assert says(unknown) == (503, "gate_unavailable"), "the worker's site is not known yet"
    await poll(centre.broker, ids.job)
    view = centre.keeper._view
    await eventually(lambda: view.worker(centre.relay.worker) is not None, what="the worker's entry")
    assert (await centre.relay.call("GET", ids.job, "connections/erp_main")).status == 200
    refused = await centre.relay.call("GET", ids.job, "connections/payroll")
    assert says(refused) == (403, "policy_denied")
    assert "site 'somewhere'" in refused.body["detail"]
    await put(centre, admin, QUEUE, policy(connection=("payroll",)))
    for path in ("connections/erp_main", "connections/payroll"):
        assert says(await centre.relay.call("GET", ids.job, path)) == (403, "policy_denied")
    await put(centre, admin, SITE, None)
    assert (await centre.relay.call("GET", ids.job, "connections/payroll")).status == 200
    assert counts((await listed(admin, SITE, 5))["connection", "payroll"]) == (1, 0, 2)


async def test_odd_names_do_not_slip_past_a_pattern(centre: Centre, admin: Broker) -> None:
    await put(centre, admin, QUEUE, policy(variable=("plant.*",)))
    ids = await task(centre)
    allowed = {
        "variables/plant.a/b",
        "variables/plant.a%2Fb",
        "~dmFyaWFibGVzL3BsYW50LmEvYg",  # the same in the opaque form
        "variables/plant.%C3%BC%252F",
        "variables/plant%2Erate",
    }
    denied = {
        "variables/Plant.rate",
        "variables/plant%252Erate",
        "variables/plant",
        "variables/x/plant.rate",
        "variables/plant./../other",
        "variables/plant.%2F..%2Fother",
        "variables/plant.%5C..%5Cother",
        "variables//plant.rate",
        "variables/%EF%BC%B0lant.rate",  # a full-width letter
        "variables/other%00plant.",
        "connections/plant.rate",
    }
    for path in allowed:
        assert says(await centre.relay.call("GET", ids.job, path)) == (200, ""), path
    for path in denied:
        assert says(await centre.relay.call("GET", ids.job, path)) == (403, "policy_denied"), path


async def test_a_relay_that_rewrites_records_stays_within_the_policy_of_the_queue(
    centre: Centre, admin: Broker
) -> None:
    """Airflow's database names the queue of a task, and its DAG."""
    await put(centre, admin, QUEUE, policy(connection=("erp_*",)))
    ids = await task(centre)
    record = await centre.record(ids.job)
    assert record.task is not None
    forged = record.task.model_copy(update={"dag_id": "elsewhere"})
    await rewrite(centre, ids.job, queue="unlimited", team="other", task=forged)
    assert says(await centre.relay.call("GET", ids.job, "xcoms/elsewhere/r/t/k")) == (403, "policy_denied")
    assert says(await centre.relay.call("GET", ids.job, "connections/payroll")) == (403, "policy_denied")
    assert (await centre.relay.call("GET", ids.job, "connections/erp_main")).status == 200


async def test_auxiliary_jobs_have_the_policy_of_their_queue(centre: Centre, admin: Broker) -> None:
    await put(centre, admin, PolicyTarget("queue", "auxiliary_jobs"), policy(connection=("erp_*",)))
    record = await centre.auxiliary(AuxiliaryKind.CALLBACK)
    assert (await centre.relay.call("GET", record.id, "connections/erp_main")).status == 200
    assert says(await centre.relay.call("GET", record.id, "connections/payroll")) == (403, "policy_denied")


async def test_two_keepers_add_to_one_list(
    centre: Centre, admin: Broker, nats: NatsServer, airflow: RealAirflow
) -> None:
    ids = await task(centre)
    async with (
        running_keeper(keeper_settings(nats, airflow)) as second,
        aiohttp.ClientSession() as session,
    ):
        relays = (centre.relay, FakeRelay(session, port=second.port))
        for _ in range(10):
            for relay in relays:
                assert (await relay.call("GET", ids.job, "connections/erp_main")).status == 200
    # The second one has left in order: nothing of its counts is lost.
    found = await listed(admin, QUEUE, 20)
    assert counts(found["connection", "erp_main"]) == (20, 0, 0)


async def test_a_keeper_that_can_t_read_the_policies_answers_nothing_that_they_are_about(
    centre: Centre, nats: NatsServer, airflow: RealAirflow
) -> None:
    """As after an upgrade without `streams apply`. What needs no policy is answered."""
    ids = await task(centre)
    buckets = {one["name"]: one for one in stream_configs()}
    async with connected(nats, ADMIN) as owner:
        await owner.api("STREAM.DELETE.KV_edge_policies")
        async with (
            running_parts(keeper_settings(nats, airflow), mint_from_config()) as keeper,
            asyncio.TaskGroup() as group,
            aiohttp.ClientSession() as session,
        ):
            group.create_task(keeper.run(stop := asyncio.Event()))
            await eventually(lambda: keeper.health()["database_checked_s_ago"] is not None, what="its other parts")
            relay = FakeRelay(session, port=keeper.port)
            beat = {"hostname": "host-1", "pid": 4711}
            assert (await relay.call("PUT", ids.job, f"task-instances/{ids.ti_id}/heartbeat", beat)).status == 204
            held = await relay.call("GET", ids.job, "connections/erp_main")
            assert says(held) == (503, "gate_unavailable")
            assert held.body["retryable"]
            assert not keeper.health()["ok"]
            await owner.api("STREAM.CREATE.KV_edge_policies", buckets["KV_edge_policies"])
            await eventually(lambda: keeper.health()["ok"], what="the policies")
            assert (await relay.call("GET", ids.job, "connections/erp_main")).status == 200
            stop.set()


async def test_a_policy_that_can_t_be_read_holds_what_it_may_be_about(centre: Centre, admin: Broker) -> None:
    ids, other = await task(centre), await task(centre, queue="other")
    await Bucket(admin, POLICIES_BUCKET).put(QUEUE.key, b'{"mode":"of a later version"}')
    view = centre.keeper._need_to_know.view
    await eventually(lambda: QUEUE in view._policies, what="the unreadable policy")
    assert says(await centre.relay.call("GET", ids.job, "connections/erp_main")) == (503, "gate_unavailable")
    assert (await centre.relay.call("GET", other.job, "connections/erp_main")).status == 200


@pytest.mark.parametrize("role", [RELAY, EXECUTOR, OPERATOR, READER])
async def test_only_the_keepers_user_writes_policies_and_accesses(nats: NatsServer, role: str) -> None:
    async with connected(nats, role) as broker, connected(nats, KEEPER) as keeper:
        for bucket in (POLICIES_BUCKET, ACCESSES_BUCKET):
            with pytest.raises(BrokerUnavailable):
                await Bucket(broker, bucket).put("queue.edge", b"{}")
            assert (await Bucket(keeper, bucket).get("queue.edge")).value is None


async def test_no_value_and_no_name_gets_where_it_must_not(
    centre: Centre, admin: Broker, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    await put(centre, admin, QUEUE, policy(connection=("erp_*",), set_variable=("ok",)))
    ids = await task(centre)
    for _ in range(30):
        await centre.relay.call("GET", ids.job, "connections/payroll")
    await centre.relay.call("GET", ids.job, "connections/erp_main")
    await centre.relay.call("PUT", ids.job, "variables/not-ok", {"value": SECRET})
    await listed(admin, QUEUE, 32)
    metrics = generate_latest(centre.keeper._metrics.registry).decode()
    assert 'edge_keeper_policy_accesses_total{kind="connection",outcome="denied"} 30.0' in metrics
    assert "payroll" not in metrics
    printed = "".join(capsys.readouterr()) + caplog.text
    assert 0 < printed.count("policy_denied") - printed.count("gate_refused") <= 20
    stored = [
        (await Bucket(admin, ACCESSES_BUCKET).get(key)).value for key in await Bucket(admin, ACCESSES_BUCKET).keys(">")
    ]
    for text in (metrics, printed, *(value.decode() for value in stored if value)):
        assert SECRET not in text


async def rewrite(centre: Centre, job: str, **changes: object) -> None:
    """What a relay that was taken over may do."""
    stored = await Bucket(centre.broker, RECORDS_BUCKET).get(job)
    assert stored.value is not None
    record = JobRecord.model_validate_json(stored.value).model_copy(update=changes)
    await Bucket(centre.broker, RECORDS_BUCKET).put(job, record.model_dump_json().encode(), revision=stored.revision)
