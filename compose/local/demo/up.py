"""`make up`: start the local system, print its addresses and logins, run until Ctrl-C."""

import sys
from pathlib import Path

from local.demo import console, report
from local.demo.paths import DAGS, RUN
from local.system.airflow import USER
from local.system.system import QUEUE, LocalSystem, stop_completely


async def up(directory: Path) -> int:
    """Start the system, wait, stop the system. Returns 1 if a part does not come up or ends."""
    progress = console.Progress()
    system = LocalSystem(console.make_empty(directory), dags=[DAGS])
    try:
        await system.start(progress.print_line)
        print(_addresses(system), flush=True)
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


def _addresses(system: LocalSystem) -> str:
    relay, edge = system.relay_facts, next(iter(system.workers.values()))
    return f"""
  Airflow          {system.airflow.url}   user {USER}, password {system.airflow.password}
  Edge Relay page  {system.airflow.page_url}   sites, workers, queues and jobs
  relay, workers   {relay.url}   CA {relay.ca_file}
  dashboard        {relay.operator_url}/ui   sign in with the access token in {relay.access_token_file}
  NATS             {relay.nats_url}   passwords in {relay.secrets_dir}
  forward proxy    {system.proxy.url}   user {system.proxy.login.user}, password {system.proxy.login.password}
  edge worker      {edge.worker_name}   serves queue {QUEUE!r}; state and log in {edge.directory}
  DAGs             {system.airflow.directory / "dags"} and {edge.directory / "dags"}, copied from {DAGS}

Trigger the DAG "demo" in Airflow and read the log of its task "talk" while the task runs; the dashboard shows where it
runs. Ctrl-C stops everything.
"""


if __name__ == "__main__":
    chosen = console.parse_options("Start the local system and run it until Ctrl-C.", RUN / "up")
    sys.exit(console.run_command(lambda: up(chosen.directory)))
