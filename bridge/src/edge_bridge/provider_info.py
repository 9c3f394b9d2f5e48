"""What Airflow reads about this package: executor, commands, and the `[edge_relay]` section of its configuration.

Read while Airflow's own configuration is being built, in every process: this module imports `typing` only.
"""

from typing import NotRequired, TypedDict

VERSION = "0.1.0"
QUEUES_EXAMPLE = '{"plant": {"offline_tolerance": 86400, "on_silence": "continue", "queue_timeout": 3600}}'


class Option(TypedDict):
    """An option of the configuration, in Airflow's form."""

    description: str
    version_added: str
    type: str
    example: str | None
    default: str
    sensitive: NotRequired[bool]


def _option(description: str, default: str, *, kind: str = "string", example: str | None = None) -> Option:
    return {
        "description": description,
        "version_added": VERSION,
        "type": kind,
        "example": example,
        "default": default,
    }


def _secret(what: str, file: str) -> Option:
    option = _option(
        f"{what} Empty means that it is read from the file {file} in secrets_dir. "
        "Give it by environment, _CMD or _SECRET rather than in a file that others read.",
        "",
    )
    option["sensitive"] = True
    return option


OPTIONS: dict[str, Option] = {
    "nats_urls": _option(
        "NATS servers of one cluster, separated by commas, without credentials: nats:// or tls://.",
        "nats://127.0.0.1:4222",
    ),
    "nats_ca_file": _option("File with the CA certificates of tls:// servers. Empty means the system's.", ""),
    "secrets_dir": _option(
        "Folder with executor.password, keeper.password, reader.password and gate.secret. Each component reads only "
        "its own file, so each machine needs only the files of the components it runs.",
        "",
    ),
    "executor_password": _secret("Password of the NATS user executor (scheduler).", "executor.password"),
    "keeper_password": _secret("Password of the NATS user keeper (airflow edge-relay keeper).", "keeper.password"),
    "reader_password": _secret("Password of the NATS user reader (logs, in the api-server).", "reader.password"),
    "gate_secret": _secret("Secret with which relay and gate sign what they tell each other.", "gate.secret"),
    "gate_host": _option("Address on which the keeper's gate listens for relays.", "127.0.0.1"),
    "gate_port": _option(
        "Port on which the keeper's gate listens for relays; 0 takes a free one.", "8799", kind="integer"
    ),
    "execution_api_url": _option(
        "Where the keeper finds Airflow's Execution API. Empty means [core] execution_api_server_url, or else "
        "http://localhost:8080/execution/.",
        "",
    ),
    "runtime_lock": _option(
        "File with pinned requirements, as pip reads them, for the Airflow runtimes of workers: `edge-worker runtime "
        "install` installs exactly these. Keepers read it whenever a worker asks, so it can be replaced at any time. "
        "Empty: workers install the keeper's version of Airflow with whatever their package index has to go with it.",
        "",
    ),
    "offline_tolerance": _option(
        "Seconds that a worker may be out of contact before its jobs are given up: from 10 to 2592000 (30 days). Until "
        "then its tasks go on and Airflow waits for them; after it Airflow retries them. In effect for tasks that are "
        "queued from then on; a queue may have its own, see queues.",
        "900",
        kind="integer",
    ),
    "on_silence": _option(
        "What a worker does with its jobs when nearly the whole offline_tolerance has passed without contact: stop or "
        "continue. With stop their processes stand still until the centre has said whether they go on or are ended. "
        "With continue two copies of a task may run at once, for Airflow retries it all the same.",
        "stop",
    ),
    "queue_timeout": _option(
        "Seconds that a job may wait for a worker to take it; then its task fails, or is retried. What was taken and "
        "given back before its user code ran waits anew. Empty or 0: it waits as long as it takes, which is no fault "
        "where sites may be away.",
        "",
        kind="integer",
    ),
    "queues": _option(
        "Queues with an offline_tolerance, on_silence or queue_timeout of their own: a JSON object by queue name, such "
        f"as {QUEUES_EXAMPLE}. What a queue does not name is as for all.",
        "",
        example=QUEUES_EXAMPLE,
    ),
    "callback_queue": _option(
        "Queue of Airflow's callbacks (of deadlines, for instance) that are to run at edge sites. Its workers need the "
        "DAG bundle. A callback runs at most once: if its worker is lost, it has failed. Empty: callbacks are refused.",
        "",
    ),
    "connection_test_queue": _option(
        "Queue of connection tests that name none themselves. A worker that tests a connection sees its password. "
        "Airflow itself gives up a test that takes longer than [connection_test] timeout, waiting included, by half a "
        "minute or more. Empty: such tests are refused.",
        "",
    ),
    "parallelism": _option(
        "How many tasks the executor may have handed out, waiting or running. Waiting ones take none of [core] "
        "parallelism, running ones do; pools and max_active_tasks count both, as for every executor.",
        "10000",
        kind="integer",
    ),
    "reconcile_interval": _option(
        "Seconds between two comparisons of what the executor handed out, what NATS holds and what Airflow wants.",
        "30",
        kind="integer",
    ),
    "metrics_port": _option(
        "Port on which the scheduler serves the executor's metrics for Prometheus at /metrics; 0 takes a free one, "
        "which the log names. Empty: none. One for all executors of a scheduler, whatever team.",
        "",
        kind="integer",
    ),
    "metrics_host": _option("Address on which the scheduler serves the executor's metrics.", "127.0.0.1"),
}


def get_provider_info() -> dict[str, object]:
    """What Airflow's provider manager asks for."""
    return {
        "package-name": "edge-relay-bridge",
        "name": "Edge Relay",
        "description": "Runs tasks at edge sites, over a queue in NATS JetStream and an HTTPS relay.",
        "executors": ["edge_bridge.executor.RelayExecutor"],
        "cli": ["edge_bridge.cli.get_cli_commands"],
        "plugins": [{"name": "edge_relay", "plugin-class": "edge_bridge.plugin.EdgeRelayPlugin"}],
        "config": {
            "edge_relay": {
                "description": "How Airflow's side of Edge Relay works: executor, keeper and log reader.",
                "options": OPTIONS,
            }
        },
    }
