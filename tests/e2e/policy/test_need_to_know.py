"""What a real task gets for what the policy of its queue allows and denies, and what its log says."""

from datetime import UTC, datetime

from edge_broker.policies.policy_store import PolicyStore
from edge_schemas.policies.policy import Policy, PolicyMode, PolicyTarget
from local.system.airflow_api import wait_for_end
from local.system.system import LocalSystem
from support.system.inspection import admin, until

DAG = QUEUE = "need_to_know"
SITE = "knows-little"


async def test_a_task_gets_what_is_allowed_and_no_default_value_for_the_rest(system: LocalSystem) -> None:
    for name in ("erp_main", "payroll"):
        await system.api.post(
            "connections", {"connection_id": name, "conn_type": "http", "host": f"{name}.example.com"}
        )
    await system.api.post("variables", {"key": "not_to_know", "value": "old"})
    policy = Policy(
        mode=PolicyMode.ENFORCE,
        allow={"connection": ("erp_*",)},
        changed_at=datetime.now(UTC),
        changed_by="a test",
    )
    async with admin(system) as broker:
        await PolicyStore(broker).put(PolicyTarget("queue", QUEUE), policy, revision=0)
    worker = await system.add_worker(SITE, [QUEUE])
    await until(lambda: system.api.has_dag(DAG), timeout_s=30)
    run = await system.api.trigger(DAG)
    assert await wait_for_end(system.api, DAG, run, timeout_s=90) == "failed"
    states = {ti["task_id"]: ti["state"] for ti in await system.api.task_instances(DAG, run)}
    assert states == {"use": "success", "emit": "failed"}
    assert await system.api.xcom(DAG, run, "use") == {
        "connection": "got erp_main.example.com",
        "other connection": "AirflowSecretsBackendAccessDenied",
        "absent connection": "AirflowSecretsBackendAccessDenied",
        "variable": "AirflowSecretsBackendAccessDenied",
        "set variable": "AirflowRuntimeError",
        "xcom": "AirflowRuntimeError",
    }
    lines = [str(line["event"]) for line in await system.api.log(DAG, run, "use")]
    [line] = [line for line in lines if "connections/payroll" in line and "policy_denied" in line]
    assert "the policy of queue 'need_to_know' does not allow connection 'payroll'" in line
    assert "airflow edge-relay policy set --queue need_to_know --allow connection=payroll" in line
    assert any("asset_event 'not_to_emit'" in str(line["event"]) for line in await system.api.log(DAG, run, "emit"))
    await worker.stop()
    del system.workers[SITE]
