"""The core with an edge site, as `docker compose up` starts it: what continues whatever dies, and what stays shut."""

import json
import os
import urllib.request
from functools import partial
from typing import Any

import pytest

from local.system.airflow_api import AirflowApi, wait_for_end
from support.system.compose_stack import WITHOUT_GRAFANA, Core, Stack, answered, until

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1200)]

ENDLESS = ["init-1", "provision-1", "enroll-token-1", "airflow-migrate-1"]
"""What runs once and ends."""
PROBE = """
import socket, sys
for address in sys.argv[1:]:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 2)
        print(address, "open")
    except OSError:
        print(address, "shut")
"""
CONNECT = """
import socket, sys
for target in sys.argv[1:]:
    link = socket.create_connection(("squid", 3128), 5)
    link.sendall(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n".encode())
    print(target, link.recv(100).split()[1].decode())
"""


def test_all_parts_are_well_and_the_demo_dag_succeeds(core: Core) -> None:
    assert core.stack.airflow(lambda api: wait_for_end(api, "demo", core.run, timeout_s=180)) == "success"
    until(lambda: set(_long_lived(core.stack).values()) == {"healthy"}, "all parts are healthy")
    assert ("grafana-1" in _long_lived(core.stack)) == (not os.environ.get(WITHOUT_GRAFANA))


def test_the_log_of_an_edge_task_is_in_airflow(core: Core) -> None:
    async def read(api: AirflowApi) -> str:
        await wait_for_end(api, "demo", core.run, timeout_s=180)
        return json.dumps(await api.log("demo", core.run, "greet"))

    assert "Hello Ada" in core.stack.airflow(read)


def test_prometheus_finds_every_part(core: Core) -> None:
    until(
        lambda: _targets(core.stack) == {"relay": ["up"], "keeper": ["up"], "executor": ["up"], "prometheus": ["up"]},
        "up",
    )


def test_the_edge_reaches_nothing_but_the_proxy(core: Core) -> None:
    addresses = _addresses(core.stack)
    said = core.stack.compose("exec", "-T", "edge-worker", "python3", "-c", PROBE, "squid:3128", *addresses).decode()
    assert said.splitlines() == ["squid:3128 open", *(f"{address} shut" for address in addresses)]


def test_the_proxy_leads_to_the_relay_and_nowhere_else(core: Core) -> None:
    barred = ["edge-relay:8404", "edge-relay:80", "relay:8443", "nats:4222", "balancer:8443", "127.0.0.1:3128"]
    said = core.stack.compose(
        "exec", "-T", "edge-worker", "python3", "-c", CONNECT, "edge-relay:8443", *barred
    ).decode()
    assert said.splitlines() == ["edge-relay:8443 200", *(f"{target} 403" for target in barred)]


def test_no_secret_is_in_the_environment_or_the_arguments_of_a_container(core: Core) -> None:
    names = [
        "airflow.password",
        "postgres.password",
        "jwt.secret",
        "fernet.key",
        "gate.secret",
        "access.token",
        "operators.token",
    ]
    secrets = [core.stack.run("secret", name) for name in [*names, "admin.password", "relay.password"]]
    told = json.dumps([one["Config"] for one in core.stack.inspect(*core.stack.containers())])
    assert not [secret for secret in secrets if secret in told]


def test_every_container_has_given_up_its_privileges(core: Core) -> None:
    for one in core.stack.inspect(*core.stack.containers()):
        host = one["HostConfig"]
        assert host["ReadonlyRootfs"], one["Name"]
        assert host["CapDrop"] == ["ALL"], one["Name"]
        assert host["SecurityOpt"] == ["no-new-privileges:true"], one["Name"]
        assert host["Memory"], one["Name"]
        assert host["LogConfig"]["Config"]["max-size"], one["Name"]


def test_tasks_outlive_the_death_of_each_part_of_the_centre(core: Core) -> None:
    stack = core.stack
    stack.airflow(lambda api: api.post("variables", {"key": "steady_may_end", "value": "no"}))
    run = stack.airflow(partial(_running, dag="steady", count=4))
    for part in ("relay-1", "nats-1", "keeper-1", "airflow-scheduler-1"):
        stack.kill(part)
        # Mypy cannot infer a lambda whose parameter has a default.
        until(lambda part=part: stack.states()[part] == "exited", f"{part} is dead")  # type: ignore[misc]
        stack.start(part)
        instances = stack.airflow(lambda api: api.task_instances("steady", run))
        assert {one["state"] for one in instances} == {"running"}, f"after the death of {part}"
    stack.airflow(lambda api: api.patch("variables/steady_may_end", {"key": "steady_may_end", "value": "yes"}))
    assert stack.airflow(lambda api: wait_for_end(api, "steady", run, timeout_s=180)) == "success"
    instances = stack.airflow(lambda api: api.task_instances("steady", run))
    assert [one["try_number"] for one in instances] == [1, 1, 1, 1]
    stack.airflow(lambda api: api.delete("variables/steady_may_end"))


def test_a_backup_brings_back_what_was_lost(core: Core) -> None:
    stack = core.stack
    workers = _workers(stack)
    backup = stack.compose("run", "--rm", "-T", "snapshot", "save")
    stack.compose("stop", "nats")
    stack.compose("run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", "nats", "-c", "rm -rf /data/single")
    stack.compose("up", "--detach", "--wait", "nats", "provision", check=False)
    stack.compose("run", "--rm", "-T", "provision")
    assert _workers(stack) == []
    stack.compose("run", "--rm", "-T", "snapshot", "restore", data=backup)
    until(lambda: _workers(stack) == workers, "the worker is known again")
    assert stack.airflow(_demo_runs) == "success"


def test_a_second_relay_takes_over(core: Core) -> None:
    stack = core.stack
    stack.compose("up", "--detach", "--no-recreate", "--no-deps", "--scale", "relay=2", "relay")
    until(lambda: stack.healthy("relay-1", "relay-2"), "two relays are healthy")
    until(lambda: _targets(stack)["relay"] == ["up", "up"], "Prometheus sees both")
    stack.kill("relay-1")
    try:
        assert stack.airflow(_demo_runs) == "success"
    finally:
        stack.start("relay-1")


def _long_lived(stack: Stack) -> dict[str, str]:
    return {name: state for name, state in stack.states().items() if name not in ENDLESS and "-run-" not in name}


def _targets(stack: Stack) -> dict[str, list[str]]:
    """By job: the health of what Prometheus scrapes."""
    url = f"http://127.0.0.1:{stack.ports['PROMETHEUS_PORT']}/api/v1/targets?state=active"
    with urllib.request.urlopen(url, timeout=10) as answer:
        targets = json.load(answer)["data"]["activeTargets"]
    jobs: dict[str, list[str]] = {}
    for target in targets:
        jobs.setdefault(target["labels"]["job"], []).append(target["health"])
    return jobs


def _addresses(stack: Stack) -> list[str]:
    """Where the others listen: every address of every container, by every port of interest, and this machine's."""
    ports = {
        "nats": 4222,
        "relay": 8443,
        "balancer": 8443,
        "keeper": 8799,
        "postgres": 5432,
        "airflow-api-server": 8080,
    }
    found = [f"edge-relay:{8443}", "1.1.1.1:443"]
    for name, port in ports.items():
        networks: dict[str, Any] = stack.inspect(f"-{name}-1")[0]["NetworkSettings"]["Networks"]
        found += [f"{network['IPAddress']}:{port}" for network in networks.values()]
    gateway = stack.inspect("_edge")[0]["IPAM"]["Config"][0]["Gateway"]
    return [*found, f"{gateway}:{stack.ports['RELAY_PORT']}"]


def _workers(stack: Stack) -> list[str]:
    return sorted(one["worker"] for one in json.loads(stack.run("cli", "workers", "list", "--json"))["items"])


async def _running(api: AirflowApi, *, dag: str, count: int) -> str:
    """Start a run and wait until so many of its tasks run."""
    run = await answered(lambda: api.trigger(dag), bool)

    def all_run(instances: list[dict[str, object]]) -> bool:
        return sum(one["state"] == "running" for one in instances) == count

    await answered(lambda: api.task_instances(dag, run), all_run)
    return run


async def _demo_runs(api: AirflowApi) -> str:
    run = await answered(lambda: api.trigger("demo"), bool)
    return await wait_for_end(api, "demo", run, timeout_s=240)
