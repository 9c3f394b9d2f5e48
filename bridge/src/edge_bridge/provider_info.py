"""Describes this package to Airflow: executor, commands, and the `[edge_relay]` section of the configuration.

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
        f"{what} If empty, it is read from the file {file} in secrets_dir. "
        "Set it by environment, _CMD or _SECRET rather than in a file that others can read.",
        "",
    )
    option["sensitive"] = True
    return option


OPTIONS: dict[str, Option] = {
    "nats_urls": _option(
        "NATS servers of one cluster, separated by commas, without credentials: nats:// or tls://.",
        "nats://127.0.0.1:4222",
    ),
    "nats_ca_file": _option("File with the CA certificates of tls:// servers. If empty, those of the system.", ""),
    "secrets_dir": _option(
        "Folder with executor.password, keeper.password, reader.password, publisher.password, operators.token and "
        "gate.secret. Each component reads only its own file, so each machine needs only the files of the components "
        "that it runs.",
        "",
    ),
    "executor_password": _secret("Password of the NATS user executor (scheduler).", "executor.password"),
    "keeper_password": _secret("Password of the NATS user keeper (airflow edge-relay keeper).", "keeper.password"),
    "reader_password": _secret("Password of the NATS user reader (logs, in the api-server).", "reader.password"),
    "publisher_password": _secret(
        "Password of the NATS user publisher (DAG code, in the dag-processor).", "publisher.password"
    ),
    "gate_secret": _secret("Secret with which relay and gate sign their calls and answers.", "gate.secret"),
    "signing_key_file": _option(
        "PEM file with the Ed25519 private keys that sign jobs, the current one first; all sign. Only schedulers need "
        "it. If empty, signing.pem in secrets_dir if it is there; without a key, jobs are not signed. Made by 'airflow "
        "edge-relay signing-keys generate'.",
        "",
    ),
    "signing_keys_file": _option(
        "File with the key sets, which are no secret: schedulers and keepers check with them what is stored of jobs, "
        "and workers get them. If empty, signing-keys.json next to the key, or in secrets_dir if it is there.",
        "",
    ),
    "signing_hook": _option(
        "Import path of a function that returns the signing keys in place of signing_key_file, for keys that are kept "
        "elsewhere: a list of objects with public_key (32 bytes) and sign(data), which returns 64 bytes.",
        "",
        example="company.kms.edge_relay_keys",
    ),
    "signed_jobs": _option(
        "What applies once there are keys. required: jobs that are not signed get no calls of the Execution API, are "
        "not republished, and workers get the keys and refuse such jobs. optional: jobs are signed, and nothing is "
        "refused; to switch signing on while older jobs are still waiting.",
        "required",
    ),
    "operators_urls": _option(
        "For the page in Airflow's UI: base URLs of the relays' operators' listeners, separated by commas, such as "
        "http://relay:8444. The api-server uses one that answers. If empty, the page explains what to set.",
        "",
    ),
    "operators_ca_file": _option(
        "File with the CA certificates of https:// operators' listeners. If empty, those of the system.", ""
    ),
    "operators_token": _secret(
        "Access token of the relay for the page in Airflow's UI, made by 'edge-relay access-token create "
        "--name airflow --for-airflow'. No user of Airflow can do more than this token.",
        "operators.token",
    ),
    "gate_host": _option("Address on which the keeper's gate listens for relays.", "127.0.0.1"),
    "gate_port": _option(
        "Port on which the keeper's gate listens for relays; 0 chooses a free port.", "8799", kind="integer"
    ),
    "execution_api_url": _option(
        "URL of Airflow's Execution API for the keeper. If empty, [core] execution_api_server_url is used, or "
        "http://localhost:8080/execution/ if that is empty too.",
        "",
    ),
    "max_call_bytes": _option(
        "Largest body in bytes of a task's call to the Execution API, and of its answer, that the keeper's gate "
        "accepts. Relays and workers have a setting of the same name.",
        "83886080",
        kind="integer",
    ),
    "body_memory_bytes": _option(
        "Memory in bytes for the bodies of all calls to the keeper's gate and of their answers. Those above 64 KiB may "
        "use three quarters of it. Calls beyond it are refused, and workers repeat them. At least four thirds of "
        "max_call_bytes.",
        "268435456",
        kind="integer",
    ),
    "worker_body_memory_bytes": _option(
        "Memory in bytes for the bodies of the calls of one worker and of their answers. Calls beyond it are refused, "
        "and the worker repeats them. At least max_call_bytes.",
        "100663296",
        kind="integer",
    ),
    "max_path_bytes": _option(
        "Longest path and query together, in bytes, of a task's call to the Execution API. Relays and workers have a "
        "setting of the same name. Airflow's api-server accepts 64 KiB.",
        "65536",
        kind="integer",
    ),
    "runtime_lock": _option(
        "File with pinned requirements, in pip's format, for the Airflow runtimes of workers: `edge-worker runtime "
        "install` installs exactly these. Keepers read it at each request of a worker, so it can be replaced at any "
        "time. If empty, workers install the keeper's version of Airflow with matching dependencies from their package "
        "index.",
        "",
    ),
    "offline_tolerance": _option(
        "Seconds that a worker may be out of contact before its jobs are given up: from 10 to 2592000 (30 days). Until "
        "then its tasks continue and Airflow waits for them; afterwards Airflow retries them. A change applies to "
        "tasks that are queued from then on; a queue may have its own value, see queues.",
        "900",
        kind="integer",
    ),
    "on_silence": _option(
        "What a worker does with its jobs when nearly the whole offline_tolerance has passed without contact: stop or "
        "continue. With stop their processes are frozen until the centre decides whether they continue or end. "
        "With continue two copies of a task may run at the same time, since Airflow retries it in any case.",
        "stop",
    ),
    "queue_timeout": _option(
        "Seconds that a job may wait for a worker; then its task fails, or is retried. The time of a job that was "
        "started and released before its user code ran begins again. If empty or 0, there is no limit: waiting is no "
        "fault where sites may be unreachable.",
        "",
        kind="integer",
    ),
    "queues": _option(
        "Queues with an offline_tolerance, on_silence or queue_timeout of their own: a JSON object by queue name, such "
        f"as {QUEUES_EXAMPLE}. Options that are not set for a queue have the common value.",
        "",
        example=QUEUES_EXAMPLE,
    ),
    "callback_queue": _option(
        "Queue for Airflow's callbacks (of deadlines, for instance) that run at edge sites. Its workers need the DAG "
        "bundle, and EDGE_WORKER_AUXILIARY_JOBS must name `callback` there. A callback runs at most once: if its "
        "worker is lost, it has failed. If empty, callbacks are refused.",
        "",
    ),
    "connection_test_queue": _option(
        "Queue for connection tests that name no queue. EDGE_WORKER_AUXILIARY_JOBS of its workers must name "
        "`connection_test`. A worker that tests a connection sees its password. Airflow itself gives up a test that "
        "takes half a minute or more longer than [connection_test] timeout, with the wait. If empty, such tests are "
        "refused.",
        "",
    ),
    "parallelism": _option(
        "How many tasks the executor may have handed out, waiting or running. Waiting tasks use no slots of [core] "
        "parallelism, running tasks do; pools and max_active_tasks count both, as for every executor.",
        "10000",
        kind="integer",
    ),
    "publish_ahead": _option(
        "How many waiting jobs of each queue have a message in NATS although no slot is free for them; per executor. A "
        "slot that becomes free finds one of them at once. All others are held by the executor in the order of their "
        "priority_weight, so a job of high weight is behind no more than these. If more than four times as many jobs "
        "of the queue run, it is a quarter of their number.",
        "4",
        kind="integer",
    ),
    "bundle_max_bytes": _option(
        "Bytes that the files of a published DAG bundle may have, at most 1073741824. A worker has a limit of its own.",
        "268435456",
        kind="integer",
    ),
    "bundle_max_files": _option(
        "Files and folders that a published DAG bundle may have, at most 20000.", "10000", kind="integer"
    ),
    "bundle_wait": _option(
        "Seconds that a task waits in the executor for the version of its DAG bundle to be published, when other "
        "versions of the bundle are; then it fails, or is retried. A task of a bundle that is not published at all "
        "does not wait.",
        "60",
        kind="integer",
    ),
    "publish_bundles": _option(
        "Names of DAG bundles, separated by commas, that the keeper publishes for workers; * for all of "
        "[dag_processor] dag_bundle_config_list. For those who keep their bundle configuration: a bundle of the class "
        "edge_bridge.bundles.PublishedBundle publishes itself and is left out. The keeper needs the same bundle "
        "configuration as the dag-processor, and access to the same folders or repositories.",
        "",
    ),
    "publish_requirements": _option(
        "JSON: by bundle that the keeper publishes, the path in the bundle of a requirements file that its tasks need, "
        "or such paths by queue, with * for all other queues. A version that a run is pinned to and that does not have "
        "the file is published without it; for the current version, a missing file is an error.",
        "",
        example='{"dags-folder": "requirements.txt", "team-a": {"gpu": "gpu.txt", "*": "all.txt"}}',
    ),
    "bundle_min_age": _option(
        "Seconds for which a published version of a DAG bundle is kept at least after no DAG run, DAG or job names it "
        "any more; at least 600. Then keepers remove it.",
        "86400",
        kind="integer",
    ),
    "reconcile_interval": _option(
        "Seconds between two comparisons of the executor's dispatches with the jobs in NATS and with Airflow's tasks.",
        "30",
        kind="integer",
    ),
    "metrics_port": _option(
        "Port on which the scheduler serves the executor's metrics for Prometheus at /metrics; 0 chooses a free port, "
        "which is logged. If empty, no metrics are served. One port for all executors of a scheduler, of all teams.",
        "",
        kind="integer",
    ),
    "metrics_host": _option("Address on which the scheduler serves the executor's metrics.", "127.0.0.1"),
}


def get_provider_info() -> dict[str, object]:
    """The description in the form of Airflow's provider manager."""
    return {
        "package-name": "edge-relay-bridge",
        "name": "Edge Relay",
        "description": "Runs tasks at edge sites, over a queue in NATS JetStream and an HTTPS relay.",
        "executors": ["edge_bridge.executor.RelayExecutor"],
        "cli": ["edge_bridge.cli.get_cli_commands"],
        "plugins": [{"name": "edge_relay", "plugin-class": "edge_bridge.plugin.EdgeRelayPlugin"}],
        "config": {
            "edge_relay": {
                "description": "Settings of Airflow's side of Edge Relay: executor, keeper and log reader.",
                "options": OPTIONS,
            }
        },
    }
