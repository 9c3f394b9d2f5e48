"""Whether the relay serves: its listeners, certificate and public URL, and how many workers it has room for."""

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
from edge_relay.identity.access import WORKER
from edge_schemas.wire.routes import METRICS, READYZ
from edge_schemas.wire.workers import WorkerAccess
from edge_service.findings import Check, Finding, failed, ok, warning
from edge_service.http_probe import NoHttpAnswer, ProbeResult, probe, trust

CERTIFICATE, READY, OPERATORS = "relay.certificate", "relay.ready", "relay.operators"
FILES, PUBLIC = "relay.open_files", "relay.public_url"
EXPIRES_SOON = timedelta(days=21)
CONNECTIONS_OF_A_WORKER = 3
"""Its poll, and what its jobs call meanwhile."""
OWN_FILES = 256
_MAX_FDS = re.compile(rb"^process_max_fds ([0-9.e+]+)$", re.MULTILINE)
_MANY_S = 30.0


class ListenerDoctor:
    """Looks at the relay that these settings make."""

    def __init__(self, target: Target, broker: NatsDoctor) -> None:
        self._target = target
        self._broker = broker

    def checks(self) -> Iterator[Check]:
        """From what it would serve with to who reaches it."""
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
            text = "Is this machine's clock right? Else wait, or have it made anew."
            return failed(CERTIFICATE, f"it is valid only from {certificate.not_valid_before_utc:%F %H:%M} UTC", text)
        host = urlsplit(self._target.public_url or "").hostname
        if host is not None and not _is_for(certificate, host):
            text = f"Have it made for {host}, or tell workers an address that is in it."
            return failed(CERTIFICATE, f"the certificate in {path} is not for {host}, of the public URL", text)
        if ends - now < EXPIRES_SOON:
            return warning(CERTIFICATE, f"the certificate in {path} ends at {ends:%F}", renew)
        return ok(CERTIFICATE, f"the certificate is valid until {ends:%F}")

    def _without_tls(self) -> Finding:
        if (self._target.public_url or "").startswith("https://"):
            return ok(CERTIFICATE, "none here: what serves the public URL ends TLS")
        text = (
            "Set RELAY_TLS_CERT_FILE and RELAY_TLS_KEY_FILE, unless a load balancer ends TLS: then give --public-url."
        )
        return warning(CERTIFICATE, "the relay speaks plain HTTP: credentials go over it in clear", text)

    async def _ready(self) -> Finding:
        url = f"{self._target.workers_url}{READYZ}"
        # Who it is does not matter here: the certificate is looked at by itself.
        anyone = ssl._create_unverified_context()  # noqa: S323, SLF001  # as `http.client` has it
        try:
            return _readiness(READY, url, await probe(url, tls=anyone))
        except NoHttpAnswer as error:
            text = "Start 'edge-relay serve' with these settings; if it is up, its log says on which address it serves."
            return failed(READY, f"no relay serves workers at {self._target.workers_url}: {error}", text)

    async def _operators(self) -> Finding:
        url = f"{self._target.operators_url}{READYZ}"
        try:
            return _readiness(OPERATORS, url, await probe(url))
        except NoHttpAnswer as error:
            text = "Start 'edge-relay serve' with these settings; if it is up, its log says on which address it serves."
            return failed(OPERATORS, f"no listener for operators at {self._target.operators_url}: {error}", text)

    async def _open_files(self) -> Finding:
        workers = 0
        for key, value in (await self._broker.values(ACCESS_BUCKET)).items():
            if key.startswith(f"{WORKER}."):
                workers += WorkerAccess.model_validate_json(value).revoked_at is None
        limit = await self._file_limit()
        wanted = CONNECTIONS_OF_A_WORKER * workers + OWN_FILES
        if limit < wanted:
            text = f"Raise it to {wanted} or more: LimitNOFILE in a systemd unit, ulimits in compose, or 'ulimit -n'."
            return warning(FILES, f"the relay may open {limit} files, too few for {workers} enrolled workers", text)
        return ok(FILES, f"the relay may open {limit} files, enough for {workers} enrolled workers")

    async def _file_limit(self) -> int:
        """Of the relay's process; where it does not tell, of this one."""
        with suppress(NoHttpAnswer):
            seen = await probe(f"{self._target.operators_url}{METRICS}")
            if told := _MAX_FDS.search(seen.body):
                return int(float(told[1]))
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    async def _public(self) -> Finding:
        base = (self._target.public_url or "").rstrip("/")
        text = (
            "Workers need this address. It may still be right if only they are to reach it: run 'edge-worker doctor' "
            "at a site. Else look at DNS, the load balancer and its path."
        )
        try:
            seen = await probe(f"{base}{READYZ}", tls=trust(self._target.ca_file))
        except NoHttpAnswer as error:
            return warning(PUBLIC, f"{base} can't be reached from here: {error}", text)
        if _status(seen) != "ok":
            return warning(PUBLIC, f"{base} answers {seen.status}, and not as a relay that is ready", text)
        return ok(PUBLIC, f"a relay answers at {base}")


def _readiness(check: str, url: str, seen: ProbeResult) -> Finding:
    if seen.status == 200 and _status(seen) == "ok":
        return ok(check, f"ready: {url}")
    try:
        problem = json.loads(seen.body)
        detail = str(problem["detail"])
    except (ValueError, TypeError, KeyError):
        text = "Something else listens on the relay's port: stop it, or give the relay another one."
        return failed(check, f"what answers at {url} is no relay (status {seen.status})", text)
    text = "Mend what it names. If the checks above are fine, wait some seconds, then look at the relay's log."
    return failed(check, f"the relay is up and not ready: {detail}", text)


def _status(seen: ProbeResult) -> object:
    try:
        told = json.loads(seen.body)
    except ValueError:
        return None
    return told.get("status") if isinstance(told, dict) else None


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
