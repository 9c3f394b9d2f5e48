"""All checks of Airflow's side, in order."""

from collections.abc import AsyncIterator, Iterator, Sequence

from edge_bridge.doctor.airflow_checks import AirflowDoctor
from edge_bridge.doctor.api_checks import ApiDoctor
from edge_bridge.doctor.bundle_checks import BundleDoctor
from edge_bridge.doctor.database_checks import DatabaseDoctor
from edge_bridge.doctor.fleet_checks import FleetDoctor
from edge_bridge.doctor.page_checks import PageDoctor
from edge_bridge.doctor.settings_checks import GATE_SECRET, SettingsDoctor, password_of
from edge_bridge.executor.settings import CALLBACK_QUEUE, CONNECTION_TEST_QUEUE
from edge_bridge.settings import Conf, text
from edge_broker.doctor.nats_doctor import NatsDoctor
from edge_broker.permissions import EXECUTOR, KEEPER
from edge_service.findings import Check, Finding, Status, examine, known
from edge_service.keeper_checks import SECRET, KeeperDoctor

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # only compared, nothing is bound


async def examine_airflow(conf: Conf, gate_urls: Sequence[str] = ()) -> AsyncIterator[Finding]:
    """Check everything that Airflow's side needs; yields each finding as soon as it is known.

    Args:
        conf: Airflow's configuration.
        gate_urls: Base URLs of the keepers' gates; without any, the URL that a keeper on this machine would have.
    """
    settings, database = SettingsDoctor(conf), DatabaseDoctor(conf)
    reach = settings.broker
    async with NatsDoctor(reach.urls, reach.ca_file, reach.passwords, setting="[edge_relay] nats_urls") as broker:
        broker.know_queues(lambda: [(None, queue) for queue in _named_queues(conf, database)])
        checks = [
            *settings.checks(),
            *AirflowDoctor(conf).checks(),
            *database.checks(),
            *ApiDoctor(conf).checks(),
            *broker.checks(needs=(password_of(EXECUTOR),)),
            *_gates(conf, gate_urls, settings.gate_key),
            *_fleet(conf, broker, database, has_keeper=KEEPER in reach.passwords),
            *PageDoctor(conf).checks(),
        ]
        async for finding in examine(checks):
            yield finding


def _named_queues(conf: Conf, database: DatabaseDoctor) -> set[str]:
    options = (text(conf, CALLBACK_QUEUE), text(conf, CONNECTION_TEST_QUEUE))
    return {*database.our_queues, *filter(None, options)}


def _gates(conf: Conf, given: Sequence[str], key: bytes | None) -> Iterator[Check]:
    host, port = text(conf, "gate_host"), text(conf, "gate_port")
    urls = list(given) or [f"http://{_WILDCARDS.get(host, host)}:{port}"]
    keepers = KeeperDoctor(
        urls,
        key,
        None,
        setting="--gate-url, or [edge_relay] gate_host and gate_port",
        secret_setting="[edge_relay] gate_secret or gate.secret in secrets_dir",  # noqa: S106  # a setting's name
    )
    for check in keepers.checks(secret_needs=(GATE_SECRET,)):
        if check.id == SECRET and key is None:
            yield known(Finding(SECRET, Status.NOT_TRIED, f"{SECRET}: because of {GATE_SECRET}"))
        else:
            yield check


def _fleet(conf: Conf, broker: NatsDoctor, database: DatabaseDoctor, *, has_keeper: bool) -> Iterator[Check]:
    for check in (*FleetDoctor(conf, broker, database).checks(), *BundleDoctor(conf, broker).checks()):
        if has_keeper:
            yield check
        else:
            detail = f"{check.id}: because of {password_of(KEEPER)}, as which the workers and bundles can be read"
            yield known(Finding(check.id, Status.NOT_TRIED, detail))
