"""From one NATS server to three and two relays: `--profile ha`, with what one server had."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.system.compose_stack import Stack, until

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]

PROJECT = "edge-relay-ha-test"
NATS = ("nats-1", "nats-2-1", "nats-3-1")
TOKEN = ("enroll-token", "create", "--queues", "plant", "--site", "north")


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Stack]:
    """One NATS server and a relay; nothing else is needed here."""
    stack = Stack(PROJECT, tmp_path / "dags", [])
    stack.down()
    try:
        stack.compose("build", "--quiet", "init", "balancer")
        stack.compose("up", "--detach", "relay", "provision")
        until(lambda: stack.healthy("relay-1"), "the relay is healthy")
        yield stack
    except BaseException:
        print(stack.logs())
        raise
    finally:
        stack.down()


def test_three_servers_take_over_from_one_and_any_of_them_may_die(single: Stack, tmp_path: Path) -> None:
    single.run("cli", "access-token", "create", "--name", "before")
    backup = single.compose("run", "--rm", "-T", "snapshot", "save")
    single.compose("stop")
    cluster = Stack(PROJECT, tmp_path / "dags", ["ha"])
    cluster.compose("up", "--detach", *("nats", "nats-2", "nats-3", "provision", "relay", "relay-2", "balancer"))
    until(lambda: cluster.healthy(*NATS, "relay-1", "relay-2-1", "balancer-1"), "the cluster is healthy")
    cluster.compose("run", "--rm", "-T", "snapshot", "restore", data=backup)
    names = [one["name"] for one in _json(cluster, "access-token", "list", "--json")["access_tokens"]]
    assert "before" in names
    assert set(_copies(cluster).values()) == {3}
    for server in NATS:
        cluster.kill(server)
        until(lambda: _writes(cluster), "two servers of three take writes")
        cluster.start(server)
    cluster.kill("relay-1")
    until(lambda: cluster.healthy("balancer-1", "relay-2-1"), "the other relay serves")


def _json(stack: Stack, *words: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = json.loads(stack.run("cli", *words))
    return found


def _copies(stack: Stack) -> dict[str, int]:
    """By stream: how many servers have it."""
    ask = ("wget", "-q", "-O", "-", "http://127.0.0.1:8222/jsz?accounts=true&streams=true&config=true")
    told = json.loads(stack.compose("exec", "-T", "nats", *ask))
    streams = [stream for account in told["account_details"] for stream in account.get("stream_detail", [])]
    return {stream["name"]: stream["config"]["num_replicas"] for stream in streams}


def _writes(stack: Stack) -> bool:
    """Whether a token can be made, which a relay writes into NATS."""
    return b"ere_" in stack.compose("run", "--rm", "-T", "cli", *TOKEN, check=False)
