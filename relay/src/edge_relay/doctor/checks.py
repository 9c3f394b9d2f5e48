"""All checks of a relay, in their order."""

from collections.abc import AsyncIterator, Iterator

from edge_broker.doctor.nats_doctor import NatsDoctor
from edge_relay.doctor.listener_checks import ListenerDoctor
from edge_relay.doctor.settings_checks import GATE_KEY, NATS_PASSWORD, SettingsDoctor, Target
from edge_service.findings import Check, Finding, examine, known, warning
from edge_service.keeper_checks import CONNECT, KeeperDoctor


async def examine_relay(target: Target) -> AsyncIterator[Finding]:
    """Check everything that a relay needs; yields each finding when it is known."""
    files = SettingsDoctor(target)
    settings = target.settings
    ca_file = settings.nats_ca_file
    passwords = files.secrets.passwords
    async with NatsDoctor(settings.nats_urls, ca_file, passwords, setting="RELAY_NATS_URLS") as broker:
        checks = [
            *files.checks(),
            *broker.checks(needs=(NATS_PASSWORD,)),
            *_gates(target, files.secrets.gate_key),
            *ListenerDoctor(target, broker).checks(),
        ]
        async for finding in examine(checks):
            yield finding


def _gates(target: Target, key: bytes | None) -> Iterator[Check]:
    settings = target.settings
    if not settings.gate_urls:
        text = "Set RELAY_GATE_URLS and RELAY_GATE_KEY_FILE, unless only jobs without Airflow run."
        yield known(warning(CONNECT, "no gate is set: every call of an Airflow task is refused", text))
        return
    keepers = KeeperDoctor(
        settings.gate_urls,
        key,
        settings.gate_ca_file,
        setting="RELAY_GATE_URLS",
        secret_setting="RELAY_GATE_KEY_FILE",  # noqa: S106  # a setting's name
    )
    yield from keepers.checks(secret_needs=(GATE_KEY,))
