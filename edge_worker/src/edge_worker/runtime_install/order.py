"""What is to be installed: named by the centre, or by the options of the command."""

import asyncio
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from edge_schemas.gate.centre import CentreFacts
from edge_schemas.life.versions import runtime_mismatch
from edge_service.text_files import NotText, read_text_file
from edge_worker.environment import proxy_environment
from edge_worker.relay.call_result import CallError
from edge_worker.relay.client import RelayClient
from edge_worker.relay.proxy import resolve_proxy
from edge_worker.relay.tls import tls_context
from edge_worker.runtime_install.locks import Lock, LockRefused, read_lock
from edge_worker.settings import Settings, SettingsError
from edge_worker.state.state import StateDir

_RECIPE = "1"
"""If this changes, the next installation makes every runtime again."""
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)+[A-Za-z0-9.+-]*")


class CentreUnknown(Exception):
    """It is unknown what to install; the text says what to do."""


@dataclass(frozen=True)
class Order:
    """What is to be installed.

    Attributes:
        airflow: The version.
        lock: All requirements; None leaves the choice to pip.
        named_by: Who has named the version, for people.
        centre: The centre's version, if it is known.
    """

    airflow: str
    lock: Lock | None
    named_by: str
    centre: str | None = None

    @property
    def requirements(self) -> str:
        """The requirements in pip's format."""
        return f"apache-airflow=={self.airflow}\n" if self.lock is None else self.lock.text

    def made_of(self, python: str) -> str:
        """Fingerprint of a runtime that is made from this order with this Python."""
        parts = (_RECIPE, self.airflow, "" if self.lock is None else self.lock.digest, python)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def order_by_hand(version: str | None, lock: Path | None) -> Order | None:
    """The order from the options; None if there are none.

    Raises:
        SettingsError: An option is wrong.
    """
    if version is not None and not _VERSION.fullmatch(version):
        raise SettingsError(f"--version {version!r} is not a version of Airflow, such as 3.3.2")
    if lock is None:
        return None if version is None else Order(version, None, "--version")
    try:
        known = read_lock(read_text_file(lock))
    except (OSError, NotText) as error:
        raise SettingsError(f"--lock: {lock} cannot be read: {error}") from None
    except LockRefused as error:
        raise SettingsError(f"--lock: {lock}: {error}") from None
    if version not in {None, known.airflow}:
        raise SettingsError(f"--version is {version}, but {lock} pins Airflow {known.airflow}: use one of the two")
    return Order(known.airflow, known, f"the lock {lock}")


def order_of(facts: CentreFacts) -> Order:
    """The centre's order.

    Raises:
        CentreUnknown: Its lock cannot be used.
    """
    if facts.runtime_lock is None:
        return Order(facts.airflow_version, None, "the centre", facts.airflow_version)
    try:
        lock = read_lock(facts.runtime_lock)
    except LockRefused as error:
        raise CentreUnknown(f"the centre's lock ([edge_relay] runtime_lock) is refused: {error}") from None
    if (fault := runtime_mismatch(lock.airflow, facts.airflow_version)) is not None:
        raise CentreUnknown(f"the centre's lock ([edge_relay] runtime_lock) cannot be used: {fault}")
    return Order(lock.airflow, lock, "the centre, which has a lock", facts.airflow_version)


def ask_centre(settings: Settings) -> CentreFacts:
    """What the relay knows about the centre, asked with the worker's own network path and credential.

    Raises:
        CentreUnknown: The worker is not enrolled, the relay does not answer, or no keeper answers the relay.
        SettingsError: A setting for the network path cannot be used.
    """
    identity = StateDir(settings.state_dir).identity()
    if identity is None:
        raise CentreUnknown(
            "this worker is not enrolled, so it is unknown which Airflow it needs: run 'edge-worker enroll' first, or "
            "set --version or --lock"
        )
    relay_url = settings.relay_url or identity.relay_url
    try:
        facts = asyncio.run(_ask(settings, relay_url, identity.secret))
    except CallError as error:
        raise CentreUnknown(
            f"the relay {relay_url} does not report which Airflow is needed: {error}. 'edge-worker doctor' finds the "
            "cause; --version or --lock works without the relay"
        ) from None
    if facts is None:
        raise CentreUnknown(
            "no keeper reports to the relay which Airflow is needed at the moment: try again, or set --version"
        )
    return facts


async def _ask(settings: Settings, relay_url: str, secret: str) -> CentreFacts | None:
    proxy = resolve_proxy(relay_url, settings, proxy_environment())
    async with RelayClient(relay_url, secret, tls=tls_context(settings), proxy=proxy) as client:
        return (await client.facts()).centre
