"""The executor's settings, in the `[edge_relay]` section."""

from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from edge_bridge.airflow.queues import Queues, read_queues
from edge_bridge.settings import SECTION, Conf, SettingsError, broker_settings, port, positive, text
from edge_bridge.signing.settings import SigningSettings, signing_settings
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import EXECUTOR
from edge_schemas.wire.ids import QueueName
from edge_schemas.wire.jobs import AuxiliaryKind

CALLBACK_QUEUE = "callback_queue"
CONNECTION_TEST_QUEUE = "connection_test_queue"

_QUEUE_NAME: TypeAdapter[str] = TypeAdapter(QueueName)


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """All settings of an executor.

    Attributes:
        core_executor: `[core] executor` as it is written; the worker needs the names in it.
        auxiliary_queues: The queues of auxiliary jobs; kinds that are refused are missing.
        bundle_wait_s: How long a job waits for the version of its bundle to be published.
        publish_ahead: How many messages more than free slots each queue has at least.
        metrics_port: None if no metrics are served. Port and host belong to the scheduler, not to a team.
    """

    broker: BrokerSettings
    core_executor: str
    bundle_wait_s: float
    publish_ahead: int
    reconcile_interval_s: float
    queues: Queues
    auxiliary_queues: dict[AuxiliaryKind, str]
    metrics_host: str
    metrics_port: int | None
    signing: SigningSettings = field(default_factory=SigningSettings)


def executor_settings(conf: Conf) -> ExecutorSettings:
    """The executor's settings.

    Raises:
        SettingsError: One is missing or wrong.
    """
    named = {
        AuxiliaryKind.CALLBACK: _queue(conf, CALLBACK_QUEUE),
        AuxiliaryKind.CONNECTION_TEST: _queue(conf, CONNECTION_TEST_QUEUE),
    }
    whole = _of_all_teams()
    return ExecutorSettings(
        broker=broker_settings(conf, EXECUTOR),
        core_executor=core_executor(),
        bundle_wait_s=positive(conf, "bundle_wait"),
        publish_ahead=positive(conf, "publish_ahead"),
        reconcile_interval_s=positive(conf, "reconcile_interval"),
        queues=read_queues(conf),
        auxiliary_queues={kind: queue for kind, queue in named.items() if queue},
        metrics_host=text(whole, "metrics_host"),
        metrics_port=port(whole, "metrics_port") if text(whole, "metrics_port") else None,
        signing=signing_settings(whole),
    )


def core_executor() -> str:
    """`[core] executor` as it is written, for all teams."""
    from airflow.configuration import conf

    return conf.get_mandatory_value("core", "executor")


def _of_all_teams() -> Conf:
    from airflow.configuration import conf

    return conf


def _queue(conf: Conf, option: str) -> str:
    """The queue that an option names, or an empty string."""
    if not (name := text(conf, option)):
        return ""
    try:
        return _QUEUE_NAME.validate_python(name)
    except ValidationError as error:
        raise SettingsError(f"[{SECTION}] {option} is {name!r}: {error.errors()[0]['msg']}") from None
