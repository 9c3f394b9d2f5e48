"""Checks the part of Airflow's own configuration that matters to tasks at the edge."""

from collections.abc import Iterator
from dataclasses import dataclass

from edge_bridge.keeper.tokens import SigningUnavailable, mint_from_config
from edge_bridge.settings import Conf
from edge_service.findings import Check, Finding, failed, ok, warning

VERSION, EXECUTOR, JWT = "airflow.version", "airflow.executor", "airflow.jwt_secret"
ORPHANS, QUEUED, HEARTBEATS = "airflow.orphaned_tasks", "airflow.task_queued_timeout", "airflow.heartbeat_timeout"
TOLERANCE, LOGS = "airflow.offline_tolerance", "airflow.logs"
OURS = "edge_bridge.executor.RelayExecutor"
OLDEST = (3, 2)
NEWEST_TESTED = (3, 3)
ORPHANS_WANTED_S = 60
SHORTEST_HEARTBEAT_S = 60
SHORTEST_TOLERANCE_S = 60
SHORTEST_JWT_CHARS = 32
_LOG_CONFIG = "edge_bridge.log_config.LOGGING_CONFIG"


@dataclass(frozen=True, slots=True)
class ExecutorNames:
    """`[core] executor`, parsed.

    Attributes:
        known: All names of configured executors that a task may use.
        ours: The names of RelayExecutor with which Airflow assigns a dispatch id: aliases and full module paths.
        default: The executor of tasks that name none.
    """

    known: frozenset[str]
    ours: tuple[str, ...]
    default: str


def executor_names() -> ExecutorNames:
    """The names as Airflow reads them.

    Raises:
        Exception: From Airflow: the setting can't be read.
    """
    from airflow.executors.executor_loader import ExecutorLoader

    found = ExecutorLoader.get_executor_names(validate_teams=False)
    known: set[str] = set()
    ours: list[str] = []
    for name in found:
        names = [one for one in (name.alias, name.module_path) if one]
        known |= {*names, name.module_path.rpartition(".")[2]}
        if name.module_path == OURS:
            ours += names
    return ExecutorNames(frozenset(known), tuple(ours), found[0].alias or found[0].module_path)


class AirflowDoctor:
    """Checks Airflow's configuration."""

    def __init__(self, conf: Conf) -> None:
        self._conf = conf

    def checks(self) -> Iterator[Check]:
        """In the order of the sections in airflow.cfg."""
        for name, check in (
            (VERSION, _version),
            (EXECUTOR, self._executor),
            (JWT, self._jwt),
            (LOGS, self._logs),
            (ORPHANS, self._orphans),
            (QUEUED, self._queued),
            (HEARTBEATS, self._heartbeats),
            (TOLERANCE, self._tolerance),
        ):
            yield Check(name, check)

    async def _executor(self) -> Finding:
        written = self._conf.get("core", "executor")
        same = "Write the same for scheduler, api-server, dag-processor, triggerer and keeper."
        try:
            names = executor_names()
        except Exception as error:  # noqa: BLE001  # the user needs Airflow's message, whatever it is
            return failed(EXECUTOR, f"[core] executor is {written!r}: {error}", f"Correct it. {same}")
        if not names.ours:
            advice = f"Add an alias for ours, for example [core] executor = LocalExecutor,edge:{OURS}. {same}"
            return failed(EXECUTOR, f"[core] executor is {written!r}: it does not name ours", advice)
        if all(name == OURS for name in names.ours):
            advice = f'Write edge:{OURS}: then DAGs use executor="edge", not the whole path. {same}'
            return warning(EXECUTOR, "our executor has no alias", advice)
        return ok(EXECUTOR, f"DAGs may name our executor {' or '.join(names.ours)}")

    async def _jwt(self) -> Finding:
        same = "Give scheduler, api-server and keeper the same value: openssl rand -hex 64"
        try:
            mint_from_config()
        except SigningUnavailable as error:
            return failed(JWT, str(error), same)
        secret = self._conf.get("api_auth", "jwt_secret", fallback=None)
        if secret is not None and 0 < len(secret) < SHORTEST_JWT_CHARS:
            return warning(JWT, f"[api_auth] jwt_secret has fewer than {SHORTEST_JWT_CHARS} characters", same)
        return ok(JWT, "there is a key to sign tokens with")

    async def _logs(self) -> Finding:
        written = self._conf.get("logging", "logging_config_class") or ""
        if written == _LOG_CONFIG or _reads_our_logs(written):
            return ok(LOGS, "logs of edge tasks show in Airflow")
        advice = (
            f"Set [logging] logging_config_class = {_LOG_CONFIG} for the api-server, or wrap the handler of your own "
            "module: see the docstring of edge_bridge.log_config."
        )
        return warning(LOGS, f"[logging] logging_config_class is {written!r}: logs of edge tasks do not show", advice)

    async def _orphans(self) -> Finding:
        value = self._seconds("scheduler", "orphaned_tasks_check_interval")
        if value > ORPHANS_WANTED_S:
            advice = "Set it to 30: after the death of a scheduler its tasks wait for the next check."
            return warning(ORPHANS, f"[scheduler] orphaned_tasks_check_interval is {value:g} s", advice)
        return ok(ORPHANS, f"tasks of a dead scheduler are searched for every {value:g} s")

    async def _queued(self) -> Finding:
        value = self._seconds("scheduler", "task_queued_timeout")
        return ok(QUEUED, f"[scheduler] task_queued_timeout ({value:g} s) does not end jobs that wait for a site")

    async def _heartbeats(self) -> Finding:
        value = self._seconds("scheduler", "task_instance_heartbeat_timeout")
        if value < SHORTEST_HEARTBEAT_S:
            advice = "Set it to 300, the default: if all keepers are down for longer, running tasks are failed."
            return warning(HEARTBEATS, f"[scheduler] task_instance_heartbeat_timeout is {value:g} s", advice)
        return ok(HEARTBEATS, f"running tasks outlive keepers that are down for {value:g} s")

    async def _tolerance(self) -> Finding:
        from edge_bridge.airflow.queues import read_queues

        queues = read_queues(self._conf)
        rules = {"all other queues": queues.default, **queues.by_name}
        short = [name for name, rule in rules.items() if rule.offline.tolerance_s < SHORTEST_TOLERANCE_S]
        if short:
            advice = (
                f"Set {SHORTEST_TOLERANCE_S} s or more: a tolerance shorter than a brief failure of the link or the "
                "restart of a relay costs tries."
            )
            return warning(TOLERANCE, f"a very short offline_tolerance: {', '.join(short)}", advice)
        longest = max(rule.offline.tolerance_s for rule in rules.values())
        return ok(TOLERANCE, f"sites may be down for {queues.default.offline.tolerance_s:g} s, at most {longest:g} s")

    def _seconds(self, section: str, option: str) -> float:
        return float(self._conf.get(section, option) or 0)


async def _version() -> Finding:
    from airflow import __version__

    release: tuple[int, ...] = tuple(int(part) for part in __version__.split(".")[:2] if part.isdigit())
    if release < OLDEST:
        return failed(VERSION, f"Airflow {__version__} is too old", f"Upgrade to {_dotted(OLDEST)} or later.")
    if release > NEWEST_TESTED:
        advice = (
            f"Test it before production: this release of Edge Relay was tested up to Airflow {_dotted(NEWEST_TESTED)}."
        )
        return warning(VERSION, f"Airflow {__version__} is newer than the tested releases", advice)
    return ok(VERSION, f"Airflow {__version__}")


def _reads_our_logs(config_class: str) -> bool:
    """Whether the module of this logging configuration contains the log reader of the bridge."""
    from importlib import import_module

    from edge_bridge.logs.remote_log import EdgeRemoteLogIO

    module, _, _ = config_class.rpartition(".")
    try:
        found: object = getattr(import_module(module), "REMOTE_TASK_LOG", None) if module else None
    except ImportError:
        return False
    return isinstance(found, EdgeRemoteLogIO)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
