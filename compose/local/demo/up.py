"""`make up`: start the whole system, print where it is and how to log in, stay until told to stop."""

import sys
from pathlib import Path

from local.demo import console, report
from local.demo.paths import DAGS, RUN
from local.system.airflow import USER
from local.system.system import QUEUE, LocalSystem, stopped


async def up(directory: Path) -> int:
    """Start, stay, stop. Ends with 1 if a part does not come up or dies."""
    progress = console.Progress()
    system = LocalSystem(console.fresh(directory), dags=[DAGS])
    try:
        await system.start(progress.say)
        print(_where(system), flush=True)
        dead = await system.died()
        print(f"\n{dead.name} ended with status {dead.returncode}:\n{report.tails([dead.log])}", file=sys.stderr)
    except Exception as problem:  # noqa: BLE001  # said, and then everything is stopped
        print("\n".join(["", *console.reasons(problem), report.tails(child.log for child in system.children)]))
    finally:
        progress.say("stopping")
        await stopped(system)
        progress.say("everything has stopped")
    return 1


def _where(system: LocalSystem) -> str:
    relay, edge = system.relay_facts, next(iter(system.workers.values()))
    return f"""
  Airflow          {system.airflow.url}   user {USER}, password {system.airflow.password}
  relay, workers   {relay.url}   CA {relay.ca_file}
  relay, operators {relay.operator_url}   access token in {relay.access_token_file}
  NATS             {relay.nats_url}   passwords in {relay.secrets_dir}
  forward proxy    {system.proxy.url}   user {system.proxy.login.user}, password {system.proxy.login.password}
  edge worker      {edge.worker_name}   serves queue {QUEUE!r}; state and log in {edge.directory}
  DAGs             {system.airflow.directory / "dags"} and {edge.directory / "dags"}, copied from {DAGS}

Trigger the DAG "demo" in Airflow and read the log of its task "talk" while it runs. Ctrl-C stops everything.
"""


if __name__ == "__main__":
    chosen = console.options("Start the whole system and stay.", RUN / "up")
    sys.exit(console.run(lambda: up(chosen.directory)))
