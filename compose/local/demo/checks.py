"""The checks of a demo run, computed from its findings."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from local.demo.live_log import LineDelays
from local.demo.new_code import NEW, OLD, CodeFindings
from local.demo.report import Check
from local.sandbox.network_sandbox import SandboxFacts
from local.system.proxy import host_and_port

CENTRE_TASKS = {"order", "total"}
EDGE_TASKS = {"make", "square", "greet", "stumble", "talk"}
LIVE_WITHIN_S = 2.0
_PART_COUNT = 20


@dataclass(frozen=True)
class Findings:
    """What was read from the system after the run; the input of the checks.

    Attributes:
        instances: Every try of every task instance, as the REST API returns it.
        xcoms: XCom values of some tasks, by task.
        live: Delays of the log lines of `talk` while the task ran.
        log: The log of `talk` after its end.
        code: What became of a change of a DAG's code.
        worker: Name of the only edge worker.
        sandbox: The report of the worker's network sandbox.
        tunnels: `host:port` of each connection that the proxy opened.
    """

    run_state: str
    instances: list[dict[str, Any]]
    xcoms: dict[str, Any]
    live: LineDelays
    log: list[dict[str, Any]]
    code: CodeFindings
    worker: str
    sandbox: SandboxFacts
    tunnels: list[str]
    relay_url: str


def check_findings(found: Findings) -> list[Check]:
    """All checks, except the check that all processes have ended."""
    return [*_check_tasks(found), *_check_logs(found), *_check_code(found.code), *_check_edge(found)]


def _check_tasks(found: Findings) -> list[Check]:
    tries: dict[str, list[str]] = {}
    for ti in found.instances:
        tries.setdefault(ti["task_id"], []).append(ti["state"])
    states = Counter(ti["state"] for ti in found.instances)
    expected = {"success": 5 + 1 + _PART_COUNT, "failed": 1}
    squares = sum(number * number for number in range(_PART_COUNT))
    return [
        Check("every task succeeded", found.run_state == "success" and states == expected, str(dict(states))),
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


def _check_logs(found: Findings) -> list[Check]:
    ticks = [line["event"] for line in found.log if str(line["event"]).startswith("tick ")]
    live, seen = found.live, len(found.live.delays)
    return [
        Check(
            f"printed lines are in Airflow's log within {LIVE_WITHIN_S:g} s while the task runs",
            passed=seen > 0 and live.worst <= LIVE_WITHIN_S,
            details=f"{seen} lines seen live, the slowest after {live.worst:.2f} s",
        ),
        Check("the finished log is complete", ticks == [f"tick {tick}" for tick in range(12)], f"{len(ticks)} lines"),
    ]


def _check_code(found: CodeFindings) -> list[Check]:
    return [
        Check("the worker fetched the DAG's code, and its helper package", found.first == OLD, repr(found.first)),
        Check("after a change of the code, a new run has the new code", found.second == NEW, repr(found.second)),
        Check("an earlier run that is cleared runs the code it began with", found.cleared == OLD, repr(found.cleared)),
        Check("and the new code, if Airflow is asked for the latest version", found.latest == NEW, repr(found.latest)),
    ]


def _check_edge(found: Findings) -> list[Check]:
    where = {ti["task_id"]: set[str]() for ti in found.instances}
    for ti in found.instances:
        where[ti["task_id"]].add(ti["hostname"])
    at_edge = all(where.get(task) == {found.worker} for task in EDGE_TASKS)
    at_centre = all(found.worker not in where.get(task, {found.worker}) for task in CENTRE_TASKS)
    relay = "{}:{}".format(*host_and_port(found.relay_url))
    others = sorted(set(found.tunnels) - {relay})
    refused = "; ".join(f"{probe.name}: {probe.inside or 'OPEN'}" for probe in found.sandbox.probes)
    skipped = found.sandbox.kind == "none"
    return [
        Check("edge tasks ran on the edge worker, the others at the centre", at_edge and at_centre),
        Check(
            "the worker connected through the forward proxy, to the relay only",
            passed=bool(found.tunnels) and not others,
            details=f"{len(found.tunnels)} connections" + (f", others to {others}" if others else ""),
        ),
        Check(
            "direct connections of the worker are blocked",
            passed=None if skipped else found.sandbox.is_isolated,
            details="this run has no isolation, as configured" if skipped else refused,
        ),
    ]
