"""All checks of a worker, from its settings to its machine."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from edge_schemas.gate.centre import WorkerFacts
from edge_service.findings import Check, Finding, Status, examine, failed, ok
from edge_worker.doctor import machine_checks, path_checks, relay_checks, settings_checks, state_checks
from edge_worker.doctor.limits import RELAY_S, TOTAL_S, Deadline, in_thread
from edge_worker.doctor.network_path import NetworkPath
from edge_worker.doctor.redact import Redactor
from edge_worker.doctor.relay_checks import RelayAddress, RelayChecks
from edge_worker.doctor.runtime_checks import RuntimeChecks, short_folder
from edge_worker.doctor.settings_checks import SourcedSettings
from edge_worker.doctor.tls_checks import TLS, tls_check
from edge_worker.environment import proxy_environment, variable_names
from edge_worker.relay.client import RelayClient
from edge_worker.relay.proxy import Proxy
from edge_worker.relay.tls import tls_context
from edge_worker.settings import SettingsError
from edge_worker.settings_sources import load_settings, setting_sources
from edge_worker.state.state import Identity, StateDir

TRUST = "settings.trust"
_DISK_S = 4.0
_DISK_HANGS = "The disk does not answer: is a network file system unavailable?"
_NEED_THE_RELAY = (path_checks.DNS, TLS, relay_checks.URL, relay_checks.READY, relay_checks.CREDENTIAL)


async def examine_worker(
    flags: Mapping[str, object], *, config: Path | None, wanted: Sequence[str]
) -> AsyncIterator[Finding]:
    """Yields each finding as soon as it is known.

    Args:
        flags: See `load_settings`.
        config: See `load_settings`.
        wanted: Queues that this worker is expected to serve.
    """
    try:
        async with asyncio.timeout(_DISK_S):
            given = await in_thread(lambda: _read_settings(flags, config))
    except (SettingsError, TimeoutError) as error:
        yield settings_checks.unreadable(str(error) or _DISK_HANGS)
        return
    examination = Examination(given, wanted)
    with short_folder() as folder:
        runtime = RuntimeChecks(given.settings, Path(folder), lambda: examination.facts)
        try:
            async for finding in examination.findings(runtime):
                yield examination.redactor.redacted(finding)
        finally:
            await runtime.close()


def _read_settings(flags: Mapping[str, object], config: Path | None) -> SourcedSettings:
    """Reads the disk too: a runtime may be in the state folder."""
    settings = load_settings(flags, config=config)
    return SourcedSettings(settings, setting_sources(flags, config=config), variable_names(), proxy_environment())


@dataclass
class Examination:
    """The examination of one worker.

    Attributes:
        wanted: See `examine_worker`.
        relay_deadline: For the checks that need the network.
    """

    given: SourcedSettings
    wanted: Sequence[str]
    redactor: Redactor = field(default_factory=Redactor)
    deadline: Deadline = field(default_factory=lambda: Deadline(TOTAL_S))
    relay_deadline: Deadline = field(default_factory=lambda: Deadline(RELAY_S))
    _identity: Identity | None = None
    _relay_url: str | None = None
    _proxy: Proxy | None = None
    _tls: ssl.SSLContext | None = None
    _relay: RelayChecks | None = None

    @property
    def facts(self) -> WorkerFacts | None:
        """What the relay knows about this worker; None before the relay was asked."""
        return self._relay.facts if self._relay is not None else None

    async def findings(self, runtime: RuntimeChecks) -> AsyncIterator[Finding]:
        """The findings, from the settings over the network to the relay, then of the machine."""
        cause = ""
        async for finding in examine(self._own_checks()):
            self.redactor.add_from(self.given.settings, self._identity, self._proxy)
            if finding.status is Status.FAILED and finding.layer == "settings":
                cause = cause or finding.check
            yield finding
        if cause:
            for check in _NEED_THE_RELAY:
                yield Finding(check, Status.NOT_TRIED, f"{check}: because of {cause}")
        else:
            async for finding in self._relay_findings():
                yield finding
        async for finding in examine([*runtime.checks(self.deadline), *self._machine_checks()]):
            yield finding

    def _own_checks(self) -> Iterable[Check]:
        settings = self.given.settings
        return [
            self._on_disk(settings_checks.READ, lambda: settings_checks.read_finding(self.given)),
            self._on_disk(state_checks.FOLDER, lambda: state_checks.folder_finding(settings.state_dir)),
            self._on_disk(state_checks.AGENT, lambda: state_checks.agent_finding(settings.state_dir)),
            self._on_disk(state_checks.SOCKETS, lambda: state_checks.sockets_finding(settings)),
            self._on_disk(state_checks.IDENTITY, self._identify),
            self._on_disk(settings_checks.RELAY, self._choose_relay),
            self._on_disk(settings_checks.PROXY, self._choose_proxy, needs=(settings_checks.RELAY,)),
            self._on_disk(TRUST, self._choose_authorities),
            self._on_disk(settings_checks.AUXILIARY, lambda: settings_checks.auxiliary_finding(self.given)),
            self._on_disk(settings_checks.COMMANDS, lambda: settings_checks.commands_finding(self.given)),
            self._on_disk(settings_checks.SIGNING, self._signing),
        ]

    def _machine_checks(self) -> Iterable[Check]:
        settings = self.given.settings
        return [
            self._on_disk(machine_checks.BUNDLES, lambda: machine_checks.bundle_findings(settings)),
            self._on_disk(machine_checks.PUBLISHED, lambda: machine_checks.published_finding(settings)),
            self._on_disk(machine_checks.USER, lambda: machine_checks.user_finding(settings)),
            self._on_disk(machine_checks.DISK, lambda: machine_checks.disk_finding(settings)),
            self._on_disk(machine_checks.MEMORY, lambda: machine_checks.memory_finding(settings)),
            self._on_disk(machine_checks.FILES, lambda: machine_checks.files_finding(settings)),
        ]

    def _on_disk(
        self, check: str, run: Callable[[], Finding | Iterable[Finding]], *, needs: tuple[str, ...] = ()
    ) -> Check:
        """A check that may hang with a disk."""
        return self.deadline.check(check, lambda: in_thread(run), needs=needs, limit_s=_DISK_S, when_late=_DISK_HANGS)

    def _identify(self) -> Finding:
        finding, self._identity = state_checks.identity_finding(StateDir(self.given.settings.state_dir))
        return finding

    def _signing(self) -> Finding:
        return settings_checks.signing_finding(self.given, datetime.now(UTC))

    def _choose_relay(self) -> Finding:
        self._relay_url = settings_checks.relay_url_of(self.given, self._identity)
        return settings_checks.relay_finding(self.given, self._identity)

    def _choose_proxy(self) -> Finding:
        finding, self._proxy = settings_checks.proxy_finding(self.given, self._relay_url or "")
        return finding

    def _choose_authorities(self) -> Finding:
        settings = self.given.settings
        try:
            self._tls = tls_context(settings)
        except SettingsError as error:
            return failed(TRUST, str(error), "It must be a PEM file that the worker's user can read.")
        files = [f"{name} {path}" for name in ("ca_file", "proxy_ca_file") if (path := getattr(settings, name))]
        return ok(TRUST, f"trusts this system's authorities{''.join(f' and {file}' for file in files)}")

    async def _relay_findings(self) -> AsyncIterator[Finding]:
        url, tls, proxy = self._relay_url, self._tls, self._proxy
        if url is None or tls is None:
            return
        path = NetworkPath(url, proxy, tls)
        secret = self._identity.secret if self._identity else ""
        async with RelayClient(url, secret, tls=tls, proxy=proxy) as client:
            address = RelayAddress(url, client, lambda other: RelayClient(other, "", tls=tls, proxy=proxy))
            self._relay = RelayChecks(url, client, self._identity, self.wanted)
            checks = path_checks.checks_of(path, self.relay_deadline)
            last = path_checks.last_check(path)
            if path.relay.scheme == "https":
                checks.append(tls_check(path, self.given.settings.ca_file, last, self.relay_deadline))
                last = TLS
            checks += address.checks(last, self.relay_deadline)
            async for finding in examine([*checks, *self._relay.checks(self.relay_deadline)]):
                yield finding
