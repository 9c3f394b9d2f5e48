"""`make demo`: start the whole system, run a DAG through it, report, stop. Ends with 0 only if every check held."""

import asyncio
import contextlib
import sys
from collections import Counter
from pathlib import Path

from local.demo import console, report
from local.demo.checks import Findings, checks
from local.demo.live_log import watch
from local.demo.paths import DAGS, RUN
from local.demo.report import Check
from local.processes.process_table import Seen, family, still_there
from local.system.airflow_api import ENDED, wait_for_end
from local.system.system import LocalSystem, stopped

DAG = "demo"


async def demo(directory: Path) -> int:
    """The whole demo; returns the exit status."""
    progress = console.Progress()
    system = LocalSystem(console.fresh(directory), dags=[DAGS])
    held: list[Check] = []
    processes: dict[int, Seen] = {}
    try:
        await system.start(progress.say)
        findings = await _run(system, progress)
        _print(findings)
        held = checks(findings)
    except Exception as problem:  # noqa: BLE001  # said below; everything is stopped and the status says it
        held = [Check("the system starts and the DAG runs", held=False, seen="; ".join(console.reasons(problem)))]
    finally:
        for child in system.children:
            processes |= family(child.pid) if child.running else {}
        progress.say("stopping everything")
        await stopped(system)
    left = still_there(processes)
    held.append(Check("everything has stopped", held=not left, seen=f"{len(left)} of {len(processes)} processes left"))
    return _verdict(system, held, progress)


async def _run(system: LocalSystem, progress: console.Progress) -> Findings:
    api = system.api
    await system.airflow.children["dag-processor"].until(lambda: api.has_dag(DAG), timeout_s=60)
    progress.say(f"triggering DAG {DAG!r}")
    run = await api.trigger(DAG)
    async with asyncio.TaskGroup() as tasks:
        live = tasks.create_task(watch(api, DAG, run, "talk", starts_with="tick"), name="live log")
        shown = tasks.create_task(_show(system, run, progress), name="progress")
        state = await wait_for_end(api, DAG, run, timeout_s=180)
        shown.cancel()
    progress.say(f"DAG run ended: {state}")
    worker = next(iter(system.workers.values()))
    return Findings(
        run_state=state,
        instances=[each for ti in await api.task_instances(DAG, run) for each in await _tries(system, run, ti)],
        xcoms={task: await api.xcom(DAG, run, task) for task in ("make", "total", "greet", "stumble")},
        live=live.result(),
        log=await api.log(DAG, run, "talk"),
        worker=worker.worker_name,
        facts=worker.facts,
        tunnels=system.proxy.tunnels(),
        relay_url=system.relay_facts.url,
    )


async def _tries(system: LocalSystem, run: str, ti: dict[str, object]) -> list[dict[str, object]]:
    if ti["try_number"] == 1:
        return [ti]
    return await system.api.tries(DAG, run, str(ti["task_id"]), int(str(ti["map_index"])))


async def _show(system: LocalSystem, run: str, progress: console.Progress) -> None:
    while True:
        found = await system.api.task_instances(DAG, run)
        states = Counter(ti["state"] or "not yet" for ti in found)
        ended = sum(count for state, count in states.items() if state in ENDED)
        busy = ", ".join(f"{count} {state}" for state, count in sorted(states.items()) if state not in ENDED)
        progress.show(f"{ended} of {len(found)} tasks have ended" + (f"; {busy}" if busy else ""))
        await asyncio.sleep(0.5)


def _print(findings: Findings) -> None:
    print("\nTasks, one line per try:")
    print(report.table(findings.instances))
    print("\nFrom the log of 'talk', as Airflow's REST API gives it:")
    print(report.excerpt(findings.log))
    print(f"\nThe proxy carried {len(findings.tunnels)} connections: {dict(Counter(findings.tunnels))}")
    print(f"The worker's box ({findings.facts.kind}), direct connections:")
    for probe in findings.facts.probes:
        inside, outside = probe.inside or "OPEN", probe.outside or "open"
        print(f"  {probe.name} {probe.address}: from inside {inside}, from outside {outside}")
    print(flush=True)


def _verdict(system: LocalSystem, held: list[Check], progress: console.Progress) -> int:
    print("Checks:")
    for check in held:
        print(check)
    if all(check.held is not False for check in held):
        progress.say("the demo went well")
        return 0
    print(f"\nThe demo FAILED. All logs are below {system.directory}; their ends:")
    with contextlib.suppress(BrokenPipeError):
        print(report.tails(child.log for child in system.children), flush=True)
    return 1


if __name__ == "__main__":
    chosen = console.options("Run the demo and stop.", RUN / "demo")
    sys.exit(console.run(lambda: demo(chosen.directory)))
