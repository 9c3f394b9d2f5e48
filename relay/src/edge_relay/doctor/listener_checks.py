"""Whether the relay serves: its listeners, certificate, public URL, and the number of workers it can serve."""

import json
import re
import resource
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from urllib.parse import urlsplit

from cryptography import x509

from edge_broker.doctor import check_ids as nats
from edge_broker.doctor.nats_doctor import NatsDoctor
from edge_broker.subjects import ACCESS_BUCKET
from edge_relay.doctor.settings_checks import TLS_FILES, Target
from edge_relay.identity.access_keys import WORKER_PREFIX
from edge_schemas.wire.routes import METRICS, READYZ
from edge_schemas.wire.workers import WorkerAccess
from edge_service.findings import Check, Finding, Status, failed, ok, warning
from edge_service.http_probe import NoHttpAnswer, ProbeResult, probe, trust
from edge_ui.paths import UI_PAGE

CERTIFICATE, READY, OPERATORS = "relay.certificate", "relay.ready", "relay.operators"
FILES, PUBLIC = "relay.open_files", "relay.public_url"
EXPIRES_SOON = timedelta(days=21)
CONNECTIONS_OF_A_WORKER = 3
"""Its poll, and the calls of its jobs."""
OWN_FILES = 256
_MAX_FDS = re.compile(rb"^process_max_fds ([0-9.e+]+)$", re.MULTILINE)
_MANY_S = 30.0


class ListenerDoctor:
    """Checks the relay of these settings."""

    def __init__(self, target: Target, broker: NatsDoctor) -> None:
        self._target = target
        self._broker = broker

    def checks(self) -> Iterator[Check]:
        """From its certificate to its public URL."""
        yield Check(CERTIFICATE, self._certificate, (TLS_FILES,))
        if self._target.workers_url is not None:
            yield Check(READY, self._ready)
        if self._target.operators_url is not None:
            yield Check(OPERATORS, self._operators)
            yield Check(FILES, self._open_files, (nats.STREAMS, OPERATORS), _MANY_S)
        if self._target.public_url is not None:
            yield Check(PUBLIC, self._public, (READY,))

    async def _certificate(self) -> Finding:
        path = self._target.settings.tls_cert_file
        if path is None:
            return self._without_tls()
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except ValueError as error:
            return failed(CERTIFICATE, f"{path} begins with no certificate: {error}", "Put the relay's own first.")
        now, ends = datetime.now(UTC), certificate.not_valid_after_utc
        renew = "Renew it and restart the relay. Workers trust it only while it is valid."
        if now > ends:
            return failed(CERTIFICATE, f"the certificate in {path} expired at {ends:%F %H:%M} UTC", renew)
        if now < certificate.not_valid_before_utc:
            text = "Check this machine's clock. If it is right, wait, or get a new certificate."
            return failed(CERTIFICATE, f"it is valid only from {certificate.not_valid_before_utc:%F %H:%M} UTC", text)
        host = urlsplit(self._target.public_url or "").hostname
        if host is not None and not _is_for(certificate, host):
            text = f"Get one for {host}, or give workers an address that is in it."
            return failed(CERTIFICATE, f"the certificate in {path} is not for {host}, of the public URL", text)
        if ends - now < EXPIRES_SOON:
            return warning(CERTIFICATE, f"the certificate in {path} expires on {ends:%F}", renew)
        return ok(CERTIFICATE, f"the certificate is valid until {ends:%F}")

    def _without_tls(self) -> Finding:
        if (self._target.public_url or "").startswith("https://"):
            return ok(CERTIFICATE, "none here: the server of the public URL terminates TLS")
        text = (
            "Set RELAY_TLS_CERT_FILE and RELAY_TLS_KEY_FILE, unless a load balancer ends TLS: then give --public-url."
        )
        return warning(CERTIFICATE, "the relay serves plain HTTP: credentials are sent unencrypted", text)

    async def _ready(self) -> Finding:
        url = f"{self._target.workers_url}{READYZ}"
        # The server's identity does not matter here: another check examines the certificate.
        anyone = ssl._create_unverified_context()  # noqa: S323, SLF001  # as in `http.client`
        try:
            return _readiness(READY, url, await probe(url, tls=anyone))
        except NoHttpAnswer as error:
            text = "Start 'edge-relay serve' with these settings; if it is up, its log says on which address it serves."
            return failed(READY, f"no relay serves workers at {self._target.workers_url}: {error}", text)

    async def _operators(self) -> Finding:
        url = f"{self._target.operators_url}{READYZ}"
        page = f"{self._target.operators_url}{UI_PAGE}"
        try:
            found = _readiness(OPERATORS, url, await probe(url))
            if found.status is not Status.OK:
                return found
            dashboard = await probe(page)
        except NoHttpAnswer as error:
            text = "Start 'edge-relay serve' with these settings; if it is up, its log says on which address it serves."
            return failed(OPERATORS, f"no listener for operators at {self._target.operators_url}: {error}", text)
        if dashboard.status != 200:
            text = "Is it a relay of this release? Upgrade it and restart it."
            return warning(OPERATORS, f"ready: {url}, but it serves no dashboard at {page}: {dashboard.status}", text)
        return ok(OPERATORS, f"ready: {url}; the dashboard is at {page}")

    async def _open_files(self) -> Finding:
        workers = 0
        for key, value in (await self._broker.values(ACCESS_BUCKET)).items():
            if key.startswith(WORKER_PREFIX):
                workers += WorkerAccess.model_validate_json(value).revoked_at is None
        limit = await self._file_limit()
        wanted = CONNECTIONS_OF_A_WORKER * workers + OWN_FILES
        if limit < wanted:
            text = f"Raise it to {wanted} or more: LimitNOFILE in a systemd unit, ulimits in compose, or 'ulimit -n'."
            return warning(FILES, f"the relay may open {limit} files, too few for {workers} enrolled workers", text)
        return ok(FILES, f"the relay may open {limit} files, enough for {workers} enrolled workers")

    async def _file_limit(self) -> int:
        """The limit of the relay's process; if it is not exported, of this one."""
        with suppress(NoHttpAnswer):
            seen = await probe(f"{self._target.operators_url}{METRICS}")
            if match := _MAX_FDS.search(seen.body):
                return int(float(match[1]))
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    async def _public(self) -> Finding:
        base = (self._target.public_url or "").rstrip("/")
        text = (
            "Workers need this address. It may be right if only they can reach it: run 'edge-worker doctor' "
            "at a site. Otherwise check DNS, the load balancer and its path."
        )
        try:
            seen = await probe(f"{base}{READYZ}", tls=trust(self._target.ca_file))
        except NoHttpAnswer as error:
            return warning(PUBLIC, f"{base} can't be reached from here: {error}", text)
        if _status(seen) != "ok":
            return warning(PUBLIC, f"{base} answers with status {seen.status}, not like a relay that is ready", text)
        return ok(PUBLIC, f"a relay answers at {base}")


def _readiness(check: str, url: str, seen: ProbeResult) -> Finding:
    if seen.status == 200 and _status(seen) == "ok":
        return ok(check, f"ready: {url}")
    try:
        problem = json.loads(seen.body)
        detail = str(problem["detail"])
    except (ValueError, TypeError, KeyError):
        text = "Something else listens on the relay's port: stop it, or give the relay another one."
        return failed(check, f"the server at {url} is not a relay (status {seen.status})", text)
    text = "Fix what it names. If the checks above are good, wait some seconds, then read the relay's log."
    return failed(check, f"the relay is up and not ready: {detail}", text)


def _status(seen: ProbeResult) -> object:
    try:
        body = json.loads(seen.body)
    except ValueError:
        return None
    return body.get("status") if isinstance(body, dict) else None


def _is_for(certificate: x509.Certificate, host: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ip_address(host) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        pass  # a name, then
    wanted = host.lower().rstrip(".")
    return any(
        name.lower() in (wanted, f"*.{wanted.partition('.')[2]}") for name in names.get_values_for_type(x509.DNSName)
    )
