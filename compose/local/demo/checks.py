"""What must hold after the demo, decided from what was found."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from local.demo.live_log import Watched
from local.demo.report import Check
from local.sandbox.network_sandbox import Facts
from local.system.proxy import host_and_port

CENTRE_TASKS = {"order", "total"}
EDGE_TASKS = {"make", "square", "greet", "stumble", "talk"}
LIVE_WITHIN_S = 2.0
_PART_COUNT = 20


@dataclass(frozen=True)
class Findings:
    """Everything the checks look at.

    Attributes:
        instances: Every try of every task instance, as the REST API gives it.
        xcoms: What some tasks left, by task.
        live: When the lines of `talk` were seen while it ran.
        log: The log of `talk` after its end.
        worker: Name of the only edge worker.
        facts: What its box found out.
        tunnels: `host:port` of each connection that the proxy carried.
    """

    run_state: str
    instances: list[dict[str, Any]]
    xcoms: dict[str, Any]
    live: Watched
    log: list[dict[str, Any]]
    worker: str
    facts: Facts
    tunnels: list[str]
    relay_url: str


def checks(found: Findings) -> list[Check]:
    """All checks but the one that everything stops."""
    return [*_of_tasks(found), *_of_logs(found), *_of_the_edge(found)]


def _of_tasks(found: Findings) -> list[Check]:
    tries: dict[str, list[str]] = {}
    for ti in found.instances:
        tries.setdefault(ti["task_id"], []).append(ti["state"])
    states = Counter(ti["state"] for ti in found.instances)
    expected = {"success": 5 + 1 + _PART_COUNT, "failed": 1}
    squares = sum(number * number for number in range(_PART_COUNT))
    return [
        Check("every task ended well", found.run_state == "success" and states == expected, str(dict(states))),
        Check("XCom from the centre to the edge", found.xcoms["make"] == list(range(_PART_COUNT))),
        Check("XCom from the edge to the centre", found.xcoms["total"] == squares, f"sum {found.xcoms['total']}"),
        Check(
            "parameters and templates",
            found.xcoms["greet"] == "Hello Ada, this is try 1 of greet",
            repr(found.xcoms["greet"]),
        ),
        Check("a task mapped over 20 inputs", tries.get("square") == ["success"] * _PART_COUNT),
        Check(
            "a failed task is retried",
            sorted(tries.get("stumble", [])) == ["failed", "success"],
            str(found.xcoms["stumble"]),
        ),
    ]


def _of_logs(found: Findings) -> list[Check]:
    ticks = [line["event"] for line in found.log if str(line["event"]).startswith("tick ")]
    live, seen = found.live, len(found.live.delays)
    return [
        Check(
            f"printed lines are in Airflow's log within {LIVE_WITHIN_S:g} s while the task runs",
            held=seen > 0 and live.worst <= LIVE_WITHIN_S,
            seen=f"{seen} lines seen live, the slowest after {live.worst:.2f} s",
        ),
        Check("the finished log is complete", ticks == [f"tick {tick}" for tick in range(12)], f"{len(ticks)} lines"),
    ]


def _of_the_edge(found: Findings) -> list[Check]:
    where = {ti["task_id"]: set[str]() for ti in found.instances}
    for ti in found.instances:
        where[ti["task_id"]].add(ti["hostname"])
    at_edge = all(where.get(task) == {found.worker} for task in EDGE_TASKS)
    at_centre = all(found.worker not in where.get(task, {found.worker}) for task in CENTRE_TASKS)
    relay = "{}:{}".format(*host_and_port(found.relay_url))
    others = sorted(set(found.tunnels) - {relay})
    refused = "; ".join(f"{probe.name}: {probe.inside or 'OPEN'}" for probe in found.facts.probes)
    unwalled = found.facts.kind == "none"
    return [
        Check("edge tasks ran on the edge worker, the others at the centre", at_edge and at_centre),
        Check(
            "the worker came through the forward proxy, to the relay only",
            held=bool(found.tunnels) and not others,
            seen=f"{len(found.tunnels)} connections" + (f", others to {others}" if others else ""),
        ),
        Check(
            "the worker's direct way out is refused",
            held=None if unwalled else found.facts.tight,
            seen="this run was told to do without isolation" if unwalled else refused,
        ),
    ]
