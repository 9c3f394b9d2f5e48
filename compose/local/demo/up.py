"""`make up`: start the local system, print its addresses and logins, run until Ctrl-C."""

import asyncio
import shlex
import sys
from pathlib import Path

from local.demo import console, report
from local.demo.paths import DAGS, RUN
from local.system.airflow import USER, as_variables
from local.system.paths import PROGRAMS
from local.system.system import QUEUE, LocalSystem, stop_completely


async def up(directory: Path) -> int:
    """Start the system, wait, stop the system. Returns 1 if a part does not come up or ends."""
    progress = console.Progress()
    system = LocalSystem(console.make_empty(directory), dags=[DAGS])
    try:
        await system.start(progress.print_line)
        command = await asyncio.to_thread(_write_command, system)
        print(_addresses(system, command), flush=True)
        ended = await system.wait_for_exit()
        print(f"\n{ended.name} ended with status {ended.returncode}:\n{report.log_tails([ended.log])}", file=sys.stderr)
    except Exception as problem:  # noqa: BLE001  # reported here; then everything is stopped
        logs = report.log_tails(child.log for child in system.children)
        print("\n".join(["", *console.error_messages(problem), logs]))
    finally:
        progress.print_line("stopping")
        await stop_completely(system)
        progress.print_line("all parts have stopped")
    return 1


def _write_command(system: LocalSystem) -> Path:
    """Write a program that runs `airflow` with the settings of this Airflow. Its secrets are in it."""
    path = system.airflow.directory / "airflow"
    settings = system.airflow.environment(system.relay_facts) | as_variables(
        {("edge_relay", "gate_port"): str(system.relay.gate_ports[0])}
    )
    exports = [f"export {name}={shlex.quote(value)}" for name, value in sorted(settings.items())]
    path.touch(mode=0o700)
    path.write_text("\n".join(["#!/bin/sh", *exports, f'exec {shlex.quote(str(PROGRAMS / "airflow"))} "$@"', ""]))
    return path


def _addresses(system: LocalSystem, command: Path) -> str:
    relay, edge = system.relay_facts, next(iter(system.workers.values()))
    return f"""
  Airflow          {system.airflow.url}   user {USER}, password {system.airflow.password}
  Edge Relay page  {system.airflow.page_url}   sites, workers, queues and jobs
  relay, workers   {relay.url}   CA {relay.ca_file}
  dashboard        {relay.operator_url}/ui   sign in with the access token in {relay.access_token_file}
  NATS             {relay.nats_url}   passwords in {relay.secrets_dir}
  forward proxy    {system.proxy.url}   user {system.proxy.login.user}, password {system.proxy.login.password}
  edge worker      {edge.worker_name}   serves queue {QUEUE!r}; state and log in {edge.directory}
  DAGs             {system.airflow.directory / "dags"}, copied from {DAGS}; the worker fetches their code
  Airflow's CLI    {command}   for example: {command.name} edge-relay bundles list

Trigger the DAG "demo" in Airflow and read the log of its task "talk" while the task runs; the dashboard shows where it
runs. Ctrl-C stops everything.
"""


if __name__ == "__main__":
    chosen = console.parse_options("Start the local system and run it until Ctrl-C.", RUN / "up")
    sys.exit(console.run_command(lambda: up(chosen.directory)))
