"""`airflow edge-relay doctor` names the layer of each broken set-up, against a real Airflow, keeper and NATS."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from edge_bridge.doctor.checks import examine_airflow
from edge_bridge.settings import Conf
from edge_broker.permissions import EXECUTOR, KEEPER, READER
from edge_service.findings import Status, as_json, exit_status
from integration.doctor.conftest import QUEUE, Centre, Findings, checked, names_only, not_tried, process
from support.airflow import airflow_home
from support.airflow.executors import forget_executors
from support.airflow.keeper import KEY
from support.airflow.real_airflow import RealAirflow
from support.nats.server import PASSWORDS, free_port
from support.signing.keys import signing_centre

# The first test starts Airflow.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
OURS = "edge_bridge.executor.RelayExecutor"


@pytest.fixture
def env(centre: Centre, airflow: RealAirflow, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The configuration of a scheduler's machine on which all is well; a test changes it."""
    settings = {
        "CORE__EXECUTOR": f"LocalExecutor,edge:{OURS}",
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "LOGGING__LOGGING_CONFIG_CLASS": "edge_bridge.log_config.LOGGING_CONFIG",
        "EDGE_RELAY__NATS_URLS": centre.server.url,
        "EDGE_RELAY__EXECUTION_API_URL": airflow.execution_url,
        "EDGE_RELAY__GATE_PORT": str(centre.keeper.port),
        "EDGE_RELAY__GATE_SECRET": KEY.decode(),
        "EDGE_RELAY__SIGNING_KEY_FILE": str(signing_centre(centre.folder / "keys").key_file),
        **{f"EDGE_RELAY__{role.upper()}_PASSWORD": PASSWORDS[role] for role in (EXECUTOR, KEEPER, READER)},
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"AIRFLOW__{name}", value)
    forget_executors()
    yield monkeypatch
    forget_executors()


async def doctor(centre: Centre) -> Findings:
    """What the doctor tells with this process's environment."""
    from airflow.configuration import conf

    found = [one async for one in examine_airflow(cast("Conf", conf))]
    return checked(exit_status(found), as_json(found))


async def test_a_healthy_centre(centre: Centre, env: pytest.MonkeyPatch) -> None:
    """Nothing but ok, and nothing but JSON on standard output, from a process of its own."""
    with airflow_home.dag_run(1, queue=QUEUE, executor="edge"):
        status, out, err = await process("airflow", "edge-relay", "doctor", "--json")
    assert status == 0, (out, err)
    findings = checked(status, out)
    assert {one["status"] for one in findings} == {Status.OK}, findings
    layers = {"settings", "airflow", "database", "dags", "api", "nats", "gate", "fleet", "bundles", "page"}
    assert {one["layer"] for one in findings} == layers


async def test_no_password_of_the_executor(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.delenv("AIRFLOW__EDGE_RELAY__EXECUTOR_PASSWORD")
    findings = await doctor(centre)
    names_only(findings, "settings.executor_password", Status.FAILED, "The scheduler needs it", "secrets_dir")
    assert "nats.credentials.executor" in not_tried(findings)


async def test_no_password_of_the_keeper(centre: Centre, env: pytest.MonkeyPatch) -> None:
    """As on a scheduler's machine that has no keeper."""
    env.delenv("AIRFLOW__EDGE_RELAY__KEEPER_PASSWORD")
    findings = await doctor(centre)
    names_only(findings, "settings.keeper_password", Status.WARNING, "Fine where the keeper does not run")
    fleet, bundles = ("workers", "parallelism", "queues"), ("room", "published", "folders")
    assert not_tried(findings) == {*(f"fleet.{one}" for one in fleet), *(f"bundles.{one}" for one in bundles)}


async def test_a_wrong_password_of_the_keeper(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.setenv("AIRFLOW__EDGE_RELAY__KEEPER_PASSWORD", "wrong")
    findings = await doctor(centre)
    names_only(findings, "nats.credentials.keeper", Status.FAILED, "keeper.password", "refused")


async def test_a_setting_of_ours_that_is_wrong(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.setenv("AIRFLOW__EDGE_RELAY__RECONCILE_INTERVAL", "often")
    names_only(await doctor(centre), "settings.values", Status.FAILED, "[edge_relay]", "reconcile_interval")


async def test_nats_down(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.setenv("AIRFLOW__EDGE_RELAY__NATS_URLS", f"nats://127.0.0.1:{free_port()}")
    names_only(await doctor(centre), "nats.connect", Status.FAILED, "[edge_relay] nats_urls", "refused")


async def test_the_keeper_is_down(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.setenv("AIRFLOW__EDGE_RELAY__GATE_PORT", str(free_port()))
    names_only(await doctor(centre), "gate.connect", Status.FAILED, "Start 'airflow edge-relay keeper'")


async def test_another_secret_than_the_keeper(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.setenv("AIRFLOW__EDGE_RELAY__GATE_SECRET", "another-secret-than-that-of-the-keeper")
    names_only(await doctor(centre), "gate.secret", Status.FAILED, "one secret")


async def test_the_api_server_is_down(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.setenv("AIRFLOW__EDGE_RELAY__EXECUTION_API_URL", f"http://127.0.0.1:{free_port()}/execution/")
    findings = await doctor(centre)
    names_only(findings, "api.answers", Status.FAILED, "Start 'airflow api-server'", "refused")
    assert not_tried(findings) == {"api.token"}


async def test_the_address_of_airflow_instead_of_its_execution_api(
    centre: Centre, airflow: RealAirflow, env: pytest.MonkeyPatch
) -> None:
    env.setenv("AIRFLOW__EDGE_RELAY__EXECUTION_API_URL", airflow.url)
    names_only(await doctor(centre), "api.answers", Status.FAILED, "ends with /execution/")


async def test_another_jwt_secret_than_the_api_server(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "another-jwt-secret-" + "x" * 64)
    names_only(await doctor(centre), "api.token", Status.FAILED, "one [api_auth] jwt_secret", "refuses a token")


async def test_our_executor_is_not_configured(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    findings = await doctor(centre)
    names_only(findings, "airflow.executor", Status.FAILED, f"edge:{OURS}", "does not name ours")
    assert "dags.executors" in not_tried(findings)


async def test_our_executor_has_no_alias(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.setenv("AIRFLOW__CORE__EXECUTOR", f"LocalExecutor,{OURS}")
    names_only(await doctor(centre), "airflow.executor", Status.WARNING, f"Write edge:{OURS}")


async def test_orphans_are_looked_for_too_seldom(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.delenv("AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL")
    names_only(await doctor(centre), "airflow.orphaned_tasks", Status.WARNING, "Set it to 30", "300 s")


async def test_heartbeats_and_tolerances_too_short(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.setenv("AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT", "30")
    env.setenv("AIRFLOW__EDGE_RELAY__QUEUES", json.dumps({"hasty": {"offline_tolerance": 10}}))
    bad = {one["check"]: one for one in await doctor(centre) if one["status"] != Status.OK}
    assert set(bad) == {"airflow.heartbeat_timeout", "airflow.offline_tolerance"}
    assert "300" in bad["airflow.heartbeat_timeout"]["advice"]
    assert "hasty" in bad["airflow.offline_tolerance"]["detail"]


async def test_logs_of_edge_tasks_do_not_show(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.delenv("AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS")
    names_only(await doctor(centre), "airflow.logs", Status.WARNING, "edge_bridge.log_config.LOGGING_CONFIG")


async def test_less_parallelism_than_slots(centre: Centre, env: pytest.MonkeyPatch) -> None:
    env.setenv("AIRFLOW__CORE__PARALLELISM", "2")
    names_only(await doctor(centre), "fleet.parallelism", Status.WARNING, "[core] parallelism to 4", "4 slots")


async def test_a_dag_that_names_an_unknown_executor(centre: Centre, env: pytest.MonkeyPatch) -> None:
    with airflow_home.dag_run(1, queue=QUEUE, executor="edgy") as dag:
        findings = await doctor(centre)
    names_only(findings, "dags.executors", Status.FAILED, "Ours is named 'edge'", f"{dag.dag_id}.t0 ('edgy')")


async def test_a_dag_that_names_our_class(centre: Centre, env: pytest.MonkeyPatch) -> None:
    with airflow_home.dag_run(1, queue=QUEUE, executor="RelayExecutor") as dag:
        findings = await doctor(centre)
    names_only(findings, "dags.executors", Status.FAILED, "Write executor='edge'", f"{dag.dag_id}.t0")


async def test_a_file_that_airflow_refused_for_its_executor(centre: Centre, env: pytest.MonkeyPatch) -> None:
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    text = "UnknownExecutorException: Task 't' specifies executor 'edgy', which is not available."
    with create_session(scoped=False) as session:
        session.add(ParseImportError(filename="plant.py", bundle_name=airflow_home.BUNDLE, stacktrace=text))
    try:
        findings = await doctor(centre)
    finally:
        with create_session(scoped=False) as session:
            session.execute(delete(ParseImportError))
    names_only(findings, "dags.executors", Status.FAILED, "Correct these DAGs", "plant.py")


async def test_a_queue_that_no_worker_serves(centre: Centre, env: pytest.MonkeyPatch) -> None:
    with airflow_home.dag_run(1, queue="mine", executor="edge") as dag:
        findings = await doctor(centre)
    names_only(findings, "fleet.queues", Status.WARNING, "enroll-token create --queues", f"'mine' (of {dag.dag_id}.t0)")


async def test_a_database_that_is_not_there(centre: Centre, env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from airflow import settings
    from sqlalchemy import create_engine
    from sqlalchemy.orm import sessionmaker

    nowhere = create_engine(f"sqlite:////{tmp_path}/no-folder/airflow.db")
    env.setattr(settings, "NonScopedSession", sessionmaker(nowhere))
    findings = await doctor(centre)
    names_only(findings, "database.answers", Status.FAILED, "run 'airflow db migrate'", "OperationalError")
    assert "dags.executors" in not_tried(findings)
