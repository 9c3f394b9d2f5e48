"""The centre: Airflow on SQLite, as separate processes like in any installation, and the keeper beside it."""

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

from local.processes.child import Child, clean_environment, stop_all
from local.system.airflow_api import AirflowApi
from local.system.ports import choose_port
from local.system.relay import PROGRAMS, RelayFacts

BOTH_EXECUTORS = "LocalExecutor,edge:edge_bridge.executor.RelayExecutor"
ONLY_RELAY = "edge_bridge.executor.RelayExecutor"
USER = "admin"
KEEPER = ["edge-relay", "keeper"]
BUSY_S = 30
Options: TypeAlias = Mapping[tuple[str, str], str]


class Airflow:
    """An Airflow with fresh secrets, in a folder of its own.

    Attributes:
        secrets: By name, what must never leave the centre.
        password: Of the user `admin`.
        children: Its services by name, once they have been started. Each can be stopped, killed and started again.
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
        """An Airflow with a keeper for each gate port, and so many schedulers.

        Args:
            directory: Keeps everything.
            dags: Folders with DAG files.
            executor: For `[core] executor`.
            gate_ports: On which the keepers listen for the relay.
            auxiliary_queue: Queue of callbacks and connection tests.
            options: Of Airflow, by section and name; they win.
            schedulers: How many.
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
        self._dags, self._auxiliary_jobs, self._options = dags, auxiliary_queue, dict(options or {})
        self._services = _services(gate_ports, schedulers)
        self._log_ports = {("logging", f"{kind}_log_server_port"): str(choose_port()) for kind in ("worker", "trigger")}
        self._warm = False

    @property
    def url(self) -> str:
        """Of the web interface and the REST API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def logs(self) -> list[Path]:
        """What its processes wrote."""
        return [child.log for child in self.children.values()]

    async def prepare(self) -> None:
        """Make folders, files and the database; needs nothing of the relay.

        Raises:
            ChildFailed: The database could not be made.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        copy_dags(self._dags, self.directory / "dags")
        passwords = self.directory / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USER: self.password}))
        migrate = self.children["db-migrate"] = self._child("db-migrate", ["db", "migrate"], self.environment(None))
        await migrate.start()
        await migrate.succeed(180)

    async def start(self, relay: RelayFacts) -> None:
        """Start all services. They are of use once `ready` answers true."""
        for name, service in self._services.items():
            environment = self.environment(relay, busy_s=service.busy_s) | as_variables(service.options)
            self.children[name] = self._child(name, service.command, environment)
            await self.children[name].start()

    async def ready(self) -> bool:
        """Whether api-server, scheduler and dag-processor say that they are well, and tasks would be answered."""
        self._warm = self._warm or await self.api.warm()
        return self._warm and await self.api.healthy()

    async def stop(self) -> None:
        """Stop all services."""
        await self.api.close()
        others = [child for name, child in self.children.items() if name != "api-server"]
        server = [child for name, child in self.children.items() if name == "api-server"]
        # It serves nothing more, and has nothing to save, long before its process ends.
        await asyncio.gather(stop_all(others, grace_s=15), stop_all(server, grace_s=3))

    def _child(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Child:
        argv = [str(PROGRAMS / "airflow"), *arguments]
        log = self.directory / "output" / f"{name}.log"
        return Child(name, argv, log=log, cwd=self.directory, env=environment)

    def environment(self, relay: RelayFacts | None, *, busy_s: int = BUSY_S) -> dict[str, str]:
        """What makes an `airflow` command speak for this installation.

        Args:
            relay: None if it needs none.
            busy_s: How long it waits for another writer of the database.
        """
        options = self._core(busy_s) | self._intervals() | (self._edge_relay(relay) if relay else {}) | self._options
        return clean_environment({"AIRFLOW_HOME": str(self.directory)} | as_variables(options))

    def _core(self, busy_s: int) -> dict[tuple[str, str], str]:
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
            ("database", "sql_alchemy_conn"): f"sqlite:///{quote(str(self.directory / 'airflow.db'))}?timeout={busy_s}",
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
            ("edge_relay", "nats_urls"): relay.nats_url,
            ("edge_relay", "secrets_dir"): str(relay.secrets_dir),
            ("edge_relay", "execution_api_url"): f"{self.url}/execution/",
            ("edge_relay", "reconcile_interval"): "5",
            ("edge_relay", "callback_queue"): self._auxiliary_jobs,
            ("edge_relay", "connection_test_queue"): self._auxiliary_jobs,
        }


@dataclass(frozen=True)
class _Service:
    """One process of Airflow's: its `airflow` command, the options that are its own, its patience with the database."""

    command: Sequence[str]
    options: Options = field(default_factory=dict)
    busy_s: int = BUSY_S


def _services(gate_ports: Sequence[int], schedulers: int) -> dict[str, _Service]:
    """By name, in the order of their start; the second of a kind is called `scheduler-2` or `keeper-2`."""
    # It notes in its event loop what a user does. If one of its threads is writing at that moment, which needs the loop
    # to come to its end, it waits for itself, and all of Airflow for it, until this time is over.
    found = {"api-server": _Service(["api-server"], busy_s=5)}
    for number in range(1, schedulers + 1):
        # Each serves the logs of its own local tasks.
        port = {("logging", "worker_log_server_port"): str(choose_port())} if number > 1 else {}
        found[_numbered("scheduler", number)] = _Service(["scheduler"], port)
    found |= {name: _Service([name]) for name in ("dag-processor", "triggerer")}
    for number, gate_port in enumerate(gate_ports, 1):
        found[_numbered("keeper", number)] = _Service(KEEPER, {("edge_relay", "gate_port"): str(gate_port)})
    return found


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"


def as_variables(options: Options) -> dict[str, str]:
    """Options of Airflow as variables of the environment."""
    return {f"AIRFLOW__{section.upper()}__{key.upper()}": value for (section, key), value in options.items()}


def copy_dags(sources: Sequence[Path], target: Path) -> None:
    """Make a folder with the DAG files of all sources."""
    target.mkdir(parents=True, exist_ok=True)
    for source in sources:
        for file in sorted(source.glob("*.py")):
            shutil.copy(file, target / file.name)
