"""The centre: Airflow on SQLite and the keeper, as separate processes like in any installation."""

import asyncio
import base64
import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from local.processes.child import Child, ChildFailed, clean_environment, stop_all
from local.system.airflow_api import AirflowApi, ApiRefused
from local.system.paths import PROGRAMS
from local.system.ports import choose_port, is_listening
from local.system.relay import RelayFacts

BOTH_EXECUTORS = "LocalExecutor,edge:edge_bridge.executor.RelayExecutor"
ONLY_RELAY = "edge_bridge.executor.RelayExecutor"
USER = "admin"
KEEPER = ["edge-relay", "keeper"]
DATABASE_TIMEOUT_S = 30
BUNDLE = "dags-folder"
LOCAL_BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"
PUBLISHED_BUNDLE = "edge_bridge.bundles.PublishedBundle"
Options: TypeAlias = Mapping[tuple[str, str], str]


class Airflow:
    """An Airflow with new secrets, in its own folder.

    Attributes:
        secrets: The secrets that must never leave the centre, by name.
        password: Of the user `admin`.
        children: Its services by name, once they were started. Each can be stopped, killed and started again.
    """

    def __init__(
        self,
        directory: Path,
        dags: Sequence[Path],
        *,
        executor: str,
        gate_ports: Sequence[int],
        auxiliary_queue: str,
        options: Options | None = None,
        schedulers: int = 1,
    ) -> None:
        """An Airflow with one keeper for each gate port, and `schedulers` schedulers.

        Args:
            directory: Folder for everything that Airflow writes.
            dags: Folders with DAG files.
            executor: Value of `[core] executor`.
            gate_ports: Ports on which the keepers listen for the relay.
            auxiliary_queue: Queue of the auxiliary jobs: callbacks and connection tests.
            options: Further options of Airflow, by section and name. They override the options set here.
            schedulers: Number of schedulers.
        """
        self.directory, self.executor = directory, executor
        self.port = choose_port(8080)
        self.password = secrets.token_urlsafe(12)
        self.secrets = {
            "jwt_secret": secrets.token_urlsafe(64),
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "secret_key": secrets.token_urlsafe(32),
        }
        self.api = AirflowApi(self.url, USER, self.password)
        self.children: dict[str, Child] = {}
        self._dags, self._auxiliary_queue, self._options = dags, auxiliary_queue, dict(options or {})
        self._services = _services(gate_ports, schedulers)
        self._log_ports = {("logging", f"{kind}_log_server_port"): str(choose_port()) for kind in ("worker", "trigger")}
        self._warmed_up = False

    @property
    def url(self) -> str:
        """URL of the web interface and the REST API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def page_url(self) -> str:
        """URL of Edge Relay's page in the web interface."""
        return f"{self.url}/plugin/edge-relay"

    async def prepare(self) -> None:
        """Create folders, files and the database. The relay need not run yet.

        Raises:
            ChildFailed: The database could not be created.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        copy_dags(self._dags, self.directory / "dags")
        passwords = self.directory / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USER: self.password}))
        migrate = self.children["db-migrate"] = self._child("db-migrate", ["db", "migrate"], self.environment(None))
        await migrate.start()
        await migrate.wait_for_success(180)

    async def start(self, relay: RelayFacts) -> None:
        """Start all services. They can be used once `is_ready` returns true.

        Raises:
            ChildFailed: The port of the api-server was taken after it had been chosen.
        """
        if await is_listening(self.port):
            raise self._port_taken()
        for name, service in self._services.items():
            environment = self.environment(relay, database_timeout_s=service.database_timeout_s) | as_variables(
                service.options
            )
            self.children[name] = self._child(name, service.command, environment)
            await self.children[name].start()

    async def is_ready(self) -> bool:
        """Whether api-server, scheduler and dag-processor are healthy, and the api-server can serve tasks.

        Raises:
            ChildFailed: Another Airflow answers on this port.
        """
        self._warmed_up = self._warmed_up or await self.api.warm_up()
        if not (self._warmed_up and await self.api.is_healthy()):
            return False
        try:
            await self.api.log_in()
        except ApiRefused as refused:
            if refused.status == 401:
                raise self._port_taken() from refused
            raise
        return True

    def _port_taken(self) -> ChildFailed:
        return ChildFailed(
            f"port {self.port} was free and is now used by another program, perhaps by another Airflow: stop that "
            "program, or start again to get another port"
        )

    async def stop(self) -> None:
        """Stop all services."""
        await self.api.close()
        others = [child for name, child in self.children.items() if name != "api-server"]
        server = [child for name, child in self.children.items() if name == "api-server"]
        # The api-server stops serving, and has nothing to save, long before its process ends.
        await asyncio.gather(stop_all(others, grace_s=15), stop_all(server, grace_s=3))

    def _child(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Child:
        argv = [str(PROGRAMS / "airflow"), *arguments]
        log = self.directory / "output" / f"{name}.log"
        return Child(name, argv, log=log, cwd=self.directory, env=environment)

    def environment(self, relay: RelayFacts | None, *, database_timeout_s: int = DATABASE_TIMEOUT_S) -> dict[str, str]:
        """The environment with which an `airflow` command uses this installation.

        Args:
            relay: None if the command needs no relay.
            database_timeout_s: How long the command waits for another writer of the database.
        """
        edge_relay = self._edge_relay(relay) if relay else {}
        options = self._core(database_timeout_s) | self._intervals() | edge_relay | self._options
        return clean_environment({"AIRFLOW_HOME": str(self.directory)} | as_variables(options))

    def _core(self, database_timeout_s: int) -> dict[tuple[str, str], str]:
        database = f"sqlite:///{quote(str(self.directory / 'airflow.db'))}?timeout={database_timeout_s}"
        return {
            ("core", "executor"): self.executor,
            ("core", "parallelism"): "16",
            ("core", "dags_folder"): str(self.directory / "dags"),
            ("core", "load_examples"): "False",
            ("core", "dags_are_paused_at_creation"): "False",
            ("core", "fernet_key"): self.secrets["fernet_key"],
            ("core", "simple_auth_manager_users"): f"{USER}:admin",
            ("core", "simple_auth_manager_passwords_file"): str(self.directory / "passwords.json"),
            ("core", "execution_api_server_url"): f"{self.url}/execution/",
            ("database", "sql_alchemy_conn"): database,
            ("database", "load_default_connections"): "False",
            ("api", "host"): "127.0.0.1",
            ("api", "port"): str(self.port),
            ("api", "base_url"): self.url,
            ("api", "workers"): "1",
            ("api", "secret_key"): self.secrets["secret_key"],
            ("api_auth", "jwt_secret"): self.secrets["jwt_secret"],
            ("logging", "base_log_folder"): str(self.directory / "logs"),
            **self._log_ports,
            ("dag_processor", "dag_bundle_storage_path"): str(self.directory / "bundles"),
            ("usage_data_collection", "enabled"): "False",
        }

    def _intervals(self) -> dict[tuple[str, str], str]:
        return {
            ("scheduler", "scheduler_idle_sleep_time"): "0.2",
            ("scheduler", "orphaned_tasks_check_interval"): "30",
            ("dag_processor", "refresh_interval"): "5",
            ("dag_processor", "bundle_refresh_check_interval"): "1",
        }

    def _edge_relay(self, relay: RelayFacts) -> dict[tuple[str, str], str]:
        return {
            ("logging", "logging_config_class"): "edge_bridge.log_config.LOGGING_CONFIG",
            ("dag_processor", "dag_bundle_config_list"): self._bundles(),
            ("edge_relay", "nats_urls"): relay.nats_url,
            ("edge_relay", "secrets_dir"): str(relay.secrets_dir),
            ("edge_relay", "operators_urls"): relay.operator_url,
            ("edge_relay", "execution_api_url"): f"{self.url}/execution/",
            ("edge_relay", "reconcile_interval"): "5",
            ("edge_relay", "callback_queue"): self._auxiliary_queue,
            ("edge_relay", "connection_test_queue"): self._auxiliary_queue,
        }

    def _bundles(self) -> str:
        """The DAG folder, whose versions are published for the workers."""
        folder = {"classpath": LOCAL_BUNDLE, "kwargs": {"path": str(self.directory / "dags")}}
        published = {"name": BUNDLE, "classpath": PUBLISHED_BUNDLE, "kwargs": {"inner": folder}}
        return json.dumps([published])


@dataclass(frozen=True)
class _Service:
    """One process of Airflow: its `airflow` command, its own options, and its timeout for the database."""

    command: Sequence[str]
    options: Options = field(default_factory=dict)
    database_timeout_s: int = DATABASE_TIMEOUT_S


def _services(gate_ports: Sequence[int], schedulers: int) -> dict[str, _Service]:
    """The services by name, in the order of their start; second instances are named `scheduler-2` and `keeper-2`."""
    # The api-server records each user action in its event loop. If one of its threads is writing at that moment, and
    # needs the loop to complete, the api-server waits for itself, and all of Airflow waits for it, until this timeout.
    found = {"api-server": _Service(["api-server"], database_timeout_s=5)}
    for number in range(1, schedulers + 1):
        # Each scheduler serves the logs of its own local tasks.
        port = {("logging", "worker_log_server_port"): str(choose_port())} if number > 1 else {}
        found[_numbered("scheduler", number)] = _Service(["scheduler"], port)
    found |= {name: _Service([name]) for name in ("dag-processor", "triggerer")}
    for number, gate_port in enumerate(gate_ports, 1):
        found[_numbered("keeper", number)] = _Service(KEEPER, {("edge_relay", "gate_port"): str(gate_port)})
    return found


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def as_variables(options: Options) -> dict[str, str]:
    """Options of Airflow as environment variables."""
    return {f"AIRFLOW__{section.upper()}__{key.upper()}": value for (section, key), value in options.items()}


def copy_dags(sources: Sequence[Path], target: Path) -> None:
    """Copy the DAG files of all sources, with the packages beside them, into one folder."""
    target.mkdir(parents=True, exist_ok=True)
    for source in sources:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
