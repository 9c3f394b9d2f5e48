"""`make demo`: start the local system, run a DAG, print a report, stop.

The exit status is 0 only if every check passed.
"""

import asyncio
import contextlib
import sys
from collections import Counter
from pathlib import Path

from local.demo import console, report
from local.demo.checks import Findings, check_findings
from local.demo.live_log import watch_log
from local.demo.new_code import change_code
from local.demo.paths import DAGS, RUN
from local.demo.report import Check
from local.processes.process_table import ProcessEntry, process_family, still_running
from local.system.airflow_api import ENDED, wait_for_end
from local.system.system import LocalSystem, stop_completely

DAG = "demo"


async def demo(directory: Path) -> int:
    """Run the demo; returns the exit status."""
    progress = console.Progress()
    system = LocalSystem(console.make_empty(directory), dags=[DAGS])
    results: list[Check] = []
    processes: dict[int, ProcessEntry] = {}
    try:
        await system.start(progress.print_line)
        findings = await run_dag(system, progress)
        print_findings(findings)
        results = check_findings(findings)
    except Exception as problem:  # noqa: BLE001  # reported as a failed check; everything is stopped
        details = "; ".join(console.error_messages(problem))
        results = [Check("the system starts and the DAG runs", passed=False, details=details)]
    finally:
        for child in system.children:
            processes |= process_family(child.pid) if child.running else {}
        progress.print_line("stopping all parts")
        await stop_completely(system)
    left = still_running(processes)
    details = f"{len(left)} of {len(processes)} processes left"
    results.append(Check("all processes have ended", passed=not left, details=details))
    return _print_verdict(system, results, progress)


async def run_dag(system: LocalSystem, progress: console.Progress) -> Findings:
    """Run the DAG on a system that is up, and read what became of the run."""
    api = system.api
    await system.airflow.children["dag-processor"].wait_until(lambda: api.has_dag(DAG), timeout_s=60)
    progress.print_line(f"triggering DAG {DAG!r}")
    run = await api.trigger(DAG)
    async with asyncio.TaskGroup() as tasks:
        live = tasks.create_task(watch_log(api, DAG, run, "talk", starts_with="tick"), name="live log")
        status = tasks.create_task(_show_status(system, run, progress), name="status")
        state = await wait_for_end(api, DAG, run, timeout_s=180)
        status.cancel()
    progress.print_line(f"DAG run ended: {state}")
    progress.print_line("changing the code of DAG 'shipped' between two runs")
    code = await change_code(system.airflow)
    worker = next(iter(system.workers.values()))
    return Findings(
        run_state=state,
        instances=[each for ti in await api.task_instances(DAG, run) for each in await _tries(system, run, ti)],
        xcoms={task: await api.xcom(DAG, run, task) for task in ("make", "total", "greet", "stumble")},
        live=live.result(),
        log=await api.log(DAG, run, "talk"),
        code=code,
        worker=worker.hostname,
        sandbox=worker.sandbox,
        tunnels=system.proxy.tunnels(),
        relay_url=system.relay_facts.url,
    )


async def _tries(system: LocalSystem, run: str, ti: dict[str, object]) -> list[dict[str, object]]:
    if ti["try_number"] == 1:
        return [ti]
    return await system.api.tries(DAG, run, str(ti["task_id"]), int(str(ti["map_index"])))


async def _show_status(system: LocalSystem, run: str, progress: console.Progress) -> None:
    while True:
        found = await system.api.task_instances(DAG, run)
        states = Counter(ti["state"] or "not scheduled" for ti in found)
        ended = sum(count for state, count in states.items() if state in ENDED)
        busy = ", ".join(f"{count} {state}" for state, count in sorted(states.items()) if state not in ENDED)
        progress.show_status(f"{ended} of {len(found)} tasks have ended" + (f"; {busy}" if busy else ""))
        await asyncio.sleep(0.5)


def print_findings(findings: Findings) -> None:
    """Print what was read, for people."""
    print("\nTasks, one line per try:")
    print(report.task_table(findings.instances))
    print("\nExcerpt of the log of 'talk', read from Airflow's REST API:")
    print(report.log_excerpt(findings.log))
    print(f"\nThe proxy opened {len(findings.tunnels)} connections: {dict(Counter(findings.tunnels))}")
    print(f"Direct connections, tried by the worker's network sandbox ({findings.sandbox.kind}):")
    for probe in findings.sandbox.probes:
        inside, outside = probe.inside or "OPEN", probe.outside or "open"
        print(f"  {probe.name} {probe.address}: from inside {inside}, from outside {outside}")
    print(flush=True)


def _print_verdict(system: LocalSystem, results: list[Check], progress: console.Progress) -> int:
    print("Checks:")
    for check in results:
        print(check)
    if all(check.passed is not False for check in results):
        progress.print_line("the demo succeeded")
        return 0
    print(f"\nThe demo FAILED. All logs are in {system.directory}; their last lines:")
    with contextlib.suppress(BrokenPipeError):
        print(report.log_tails(child.log for child in system.children), flush=True)
    return 1


if __name__ == "__main__":
    chosen = console.parse_options("Run the demo and stop.", RUN / "demo")
    sys.exit(console.run_command(lambda: demo(chosen.directory)))
