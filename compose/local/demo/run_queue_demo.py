"""`make demo-queue`: a queue without Airflow: submit commands, kill a worker, show where each command ran, stop.

The exit status is 0 only if every check passed.
"""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from local.demo import console, report
from local.demo.paths import RUN
from local.demo.report import Check
from local.processes.process_table import ProcessEntry, process_family, still_running
from local.system.queue_system import QueueSystem

QUEUE = "plants"
SITES = ("plant-a", "plant-b")
COMMANDS = 200
SLOTS = 8
TOLERANCE_S = 10
"""The shortest there is: the jobs of the killed worker start again after it."""
KILL_AFTER = 1 / 4
"""Of all commands."""
WAIT_S = 180.0
_SCRIPT = 'sleep 0.5; echo "command $0 at $EDGE_RELAY_SITE, attempt $EDGE_RELAY_ATTEMPT"'

Status = Mapping[str, Any]


async def demo(directory: Path, commands: int) -> int:
    """Run the demo; returns the exit status."""
    progress = console.Progress()
    system = QueueSystem(console.make_empty(directory))
    results: list[Check] = []
    processes: dict[int, ProcessEntry] = {}
    try:
        await system.start(SITES, QUEUE, slots=SLOTS)
        progress.print_line(f"relay, proxy and workers at {', '.join(SITES)} are up; no Airflow")
        results = await _run(system, progress, commands)
    except Exception as problem:  # noqa: BLE001  # reported as a failed check; everything is stopped
        details = "; ".join(console.error_messages(problem))
        results.append(Check("the system starts and the commands run", passed=False, details=details))
    finally:
        for child in system.children:
            processes |= process_family(child.pid) if child.running else {}
        progress.print_line("stopping all parts")
        stopping = asyncio.create_task(system.stop(), name="stop")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(stopping)
    left = still_running(processes)
    results.append(Check("all processes have ended", passed=not left, details=f"{len(left)} of {len(processes)} left"))
    print("Checks:")
    for check in results:
        print(check)
    if all(check.passed is not False for check in results):
        progress.print_line("the demo succeeded")
        return 0
    print(f"\nThe demo FAILED. All logs are in {system.directory}; their last lines:")
    print(report.log_tails(child.log for child in system.children), flush=True)
    return 1


async def _run(system: QueueSystem, progress: console.Progress, commands: int) -> list[Check]:
    submissions = [_submission(number) for number in range(commands)]
    jobs = await system.submit(QUEUE, submissions)
    progress.print_line(f"{len(jobs)} commands submitted to queue {QUEUE!r}")
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
        # The same keys: these are the same jobs.
        batch = tasks.create_task(system.run_batch(QUEUE, submissions), name="batch")
        await _wait_until(system, commands, lambda ended: ended >= KILL_AFTER * commands, batch, progress)
        await system.workers[SITES[0]].child.crash()
        progress.print_line(f"the worker at {SITES[0]} was killed, with the commands that ran there")
        await _wait_until(system, commands, lambda _: False, batch, progress)
        ends = await batch
    progress.print_line(f"all {len(ends)} commands have ended")
    sites = {worker.worker_name: site for site, worker in system.workers.items()}
    print("\nWhere the commands ran:")
    print(_table(ends, sites))
    print(flush=True)
    return _checks(jobs, ends, sites, system)


def _submission(number: int) -> dict[str, object]:
    return {
        "command": {"argv": ["sh", "-c", _SCRIPT, str(number)]},
        "name": f"command {number}",
        "key": f"demo-{number}",
        "on_lost": "requeue",
        "offline_tolerance_s": TOLERANCE_S,
    }


async def _wait_until(
    system: QueueSystem,
    total: int,
    is_reached: Callable[[int], bool],
    batch: "asyncio.Task[Any]",
    progress: console.Progress,
) -> None:
    """Show the progress until enough commands have ended, or all."""
    while not batch.done():
        ended = total - await system.unfinished(QUEUE)
        progress.show_status(f"{ended} of {total} commands have ended")
        if is_reached(ended):
            return
        await asyncio.wait([batch], timeout=0.5)


def _table(ends: Sequence[Status], sites: Mapping[str, str]) -> str:
    lines = [f"  {'site':<10} {'worker':<24} {'commands':>8}  {'second attempts':>15}"]
    where = Counter((sites.get(str(one["worker"]), "?"), str(one["worker"])) for one in ends)
    again = Counter(str(one["worker"]) for one in ends if one["attempt"] > 1)
    lines += [f"  {site:<10} {name:<24} {n:>8}  {again[name]:>15}" for (site, name), n in sorted(where.items())]
    return "\n".join(lines)


def _checks(jobs: Sequence[str], ends: Sequence[Status], sites: Mapping[str, str], system: QueueSystem) -> list[Check]:
    verdicts = Counter(str(one["outcome"]["verdict"]) for one in ends)
    again = sum(one["attempt"] > 1 for one in ends)
    tunnels = system.proxy.tunnels()
    is_same = len(set(jobs)) == len(ends) and sorted(jobs) == sorted(str(one["job"]) for one in ends)
    return [
        Check("each submission is one job, also the second time", passed=is_same, details=f"{len(set(jobs))} jobs"),
        Check("all commands succeeded", passed=verdicts == {"succeeded": len(jobs)}, details=f"{dict(verdicts)}"),
        Check("what ran on the killed worker ran again", passed=0 < again <= SLOTS, details=f"{again} commands"),
        Check("both sites took part", passed={sites.get(str(one["worker"])) for one in ends} == set(SITES)),
        Check(
            "workers reach the relay through the proxy only", passed=bool(tunnels), details=f"{len(tunnels)} tunnels"
        ),
    ]


if __name__ == "__main__":
    parser = console.options("Run commands at two sites without Airflow, and stop.", RUN / "demo-queue")
    parser.add_argument("--commands", type=int, default=COMMANDS, help="how many commands are submitted")
    chosen = parser.parse_args()
    sys.exit(console.run_command(lambda: demo(chosen.directory, chosen.commands)))
