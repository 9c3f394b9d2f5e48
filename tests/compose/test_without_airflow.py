"""The queue alone: `without-airflow.yaml`, with a worker for commands behind the proxy."""

import json
from collections.abc import Iterator

import pytest

from support.system.compose_stack import Stack, until

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

QUEUE = "plant"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(
        "edge-relay-queue-test",
        tmp_path_factory.mktemp("queue") / "dags",
        ["edge"],
        files=["without-airflow.yaml"],
        env={"EDGE_COMMANDS": "uname,sh"},
    )
    stack.down()
    try:
        stack.compose("build", "--quiet", "init", "balancer", "squid", "edge-worker")
        stack.compose("up", "--detach")
        until(lambda: stack.healthy("relay-1", "balancer-1", "edge-worker-1"), "relay and worker are healthy")
        yield stack
    except BaseException:
        print(stack.logs())
        raise
    finally:
        stack.down()


def test_no_part_of_airflow_runs(stack: Stack) -> None:
    parts = {name.rpartition("-")[0] for name in stack.states()}
    assert parts == {"init", "nats", "provision", "relay", "balancer", "enroll-token", "squid", "edge-worker"}


def test_a_command_runs_behind_the_proxy_and_its_output_is_printed(stack: Stack) -> None:
    assert "Linux" in stack.run("cli", "submit", "--queue", QUEUE, "--", "uname", "-s")


def test_a_command_that_is_not_allowed_is_parked_with_the_reason(stack: Stack) -> None:
    job = stack.run("cli", "submit", "--queue", QUEUE, "--detach", "--", "tee")
    until(lambda: _parked(stack, job) is not None, "the job is parked")
    assert "its owner has not allowed it" in str(_parked(stack, job))


def test_a_producer_gets_a_token(stack: Stack) -> None:
    words = ("--name", "shop", "--role", "producer", "--queues", QUEUE, "--reason", "orders of the shop")
    assert stack.run("cli", "tokens", "create", *words).startswith("era_")


def test_a_command_survives_the_death_of_relay_and_nats(stack: Stack) -> None:
    job = stack.run("cli", "submit", "--queue", QUEUE, "--detach", "--", "sh", "-c", "sleep 20; echo done")
    until(lambda: _row(stack, job)["state"] == "running", "the command runs")
    for part in ("relay-1", "nats-1"):
        stack.kill(part)
        stack.start(part)
    until(lambda: _row(stack, job).get("verdict") == "succeeded", "the command has succeeded")


def _row(stack: Stack, job: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(stack.run("cli", "jobs", "show", job, "--json"))["row"]
    return found


def _parked(stack: Stack, job: str) -> object:
    return _row(stack, job).get("parked")
