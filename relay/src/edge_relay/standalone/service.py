"""`edge-relay standalone`: nats-server and one relay in one command, with everything they need in one folder.

D/lock                  held while it runs
D/nats/                 configuration, log and store of nats-server
D/tls/                  development CA and the relay's certificate
D/secrets/              passwords of the NATS users, the secret shared with the gate, an access token
D/standalone.json       where everything is; there only while it is up
"""

import asyncio
import fcntl
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import structlog
import uvloop

from edge_broker import layout
from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import ADMIN, RELAY, ROLES
from edge_relay.http import keys
from edge_relay.identity.access import AccessStore
from edge_relay.serve import serving
from edge_relay.settings import Settings
from edge_relay.standalone import tls
from edge_relay.standalone.facts import Facts, remove_facts, write_facts
from edge_relay.standalone.nats import running_nats
from edge_relay.standalone.nats_server import find_binary
from edge_relay.standalone.ports import choose_port
from edge_relay.standalone.private_files import make_private_dir, read_or_make, read_secret
from edge_schemas.wire.workers import EnrollTokenRequest, SecretKind, new_secret

log = structlog.get_logger(__name__)

DEFAULT_PORT, DEFAULT_OPERATOR_PORT, DEFAULT_NATS_PORT = 8443, 8444, 4222
DEFAULT_GATE_URL = "http://127.0.0.1:8799"
LOOPBACK = "127.0.0.1"
CONNECT_S = 15.0
FIRST_TOKEN = EnrollTokenRequest(queues=("default",), site="laptop", uses=10, ttl_s=24 * 3600)
_WILDCARDS = frozenset({"0.0.0.0", "::"})  # recognised, not bound


class StandaloneFailed(Exception):
    """It can't run, or could not go on; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; None where it says nothing.

    Attributes:
        port: 0 takes any; without one the default or the next free one is taken.
        tls_hosts: Names in the certificate, besides those it has anyway.
    """

    data_dir: Path
    host: str | None = None
    port: int | None = None
    operator_port: int | None = None
    nats_port: int | None = None
    public_url: str | None = None
    tls_hosts: tuple[str, ...] = ()
    gate_urls: tuple[str, ...] = ()
    nats_server: Path | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """The files of one data folder."""

    data_dir: Path
    passwords: dict[str, str]

    @property
    def secrets_dir(self) -> Path:
        return self.data_dir / "secrets"

    @property
    def gate_secret(self) -> Path:
        return self.secrets_dir / "gate.secret"

    @property
    def access_token(self) -> Path:
        return self.secrets_dir / "access.token"


def run(options: Options, base: Settings, say: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT.

    Args:
        options: Of the command line.
        base: Settings of the environment; the command line wins.
        say: Prints lines for people.

    Raises:
        StandaloneFailed: The data folder is in use.
        SettingsError: See `serving` and `choose_port`.
        ServerMissing, ServerFailed, LayoutRefused, HostRefused: Their texts say what to do.
    """
    # Absolute: what is written down must hold in other folders too.
    data_dir = make_private_dir(Path(os.path.abspath(options.data_dir)))  # noqa: PTH100  # resolve() would follow links
    with _locked(data_dir), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        remove_facts(data_dir)
        try:
            runner.run(_run(options, base, data_dir, say))
        except asyncio.CancelledError:
            raise StandaloneFailed("stopped before it was up") from None


async def _run(options: Options, base: Settings, data_dir: Path, say: Callable[[str], None]) -> None:
    leave, loop, this = asyncio.Event(), asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None  # noqa: S101  # a coroutine runs in a task
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, this.cancel)
    async with standing(options, base, data_dir) as (facts, token):
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, leave.set)
        for line in greeting(facts, token, data_dir):
            say(line)
        await leave.wait()
        say("Stopping: parked polls are answered, calls in progress end. Once more to leave at once.")
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def standing(options: Options, base: Settings, data_dir: Path) -> AsyncIterator[tuple[Facts, str]]:
    """Everything up while inside; gives what was written into `standalone.json`, and a new enrolment token."""
    place = _Place(data_dir, _make_secrets(data_dir))
    binary = find_binary(options.nats_server)
    nats_port = choose_port(LOOPBACK, options.nats_port, DEFAULT_NATS_PORT, "--nats-port")
    settings, files = _relay_settings(options, base, place, f"nats://{LOOPBACK}:{nats_port}")
    async with running_nats(binary, data_dir / "nats", place.passwords, nats_port) as url:
        token = await _provision(url, place)
        async with serving(settings) as relay:
            facts = Facts(
                relay_url=_public_url(options.public_url, settings.host, urlsplit(relay.workers_url).port),
                workers_url=_public_url(None, settings.host, urlsplit(relay.workers_url).port),
                gate_urls=settings.gate_urls,
                operator_url=relay.operators_url,
                ca_file=files.ca_cert,
                nats_url=url,
                secrets_dir=place.secrets_dir,
                gate_secret_file=place.gate_secret,
                access_token_file=place.access_token,
                pid=os.getpid(),
            )
            await _until_ready(relay.app[keys.CREDENTIALS].complete)
            write_facts(data_dir, facts)
            try:
                yield facts, token
            finally:
                remove_facts(data_dir)


def greeting(facts: Facts, token: str, data_dir: Path) -> list[str]:
    """What is printed once it is up."""
    return [
        "Edge Relay is up.",
        "",
        f"  workers    {facts.relay_url}",
        f"  CA file    {facts.ca_file}   (workers need a copy)",
        f"  operators  {facts.operator_url}   access token in {facts.access_token_file}",
        f"  NATS       {facts.nats_url}   passwords in {facts.secrets_dir}",
        "",
        f"Enrol a worker (this token: queue {FIRST_TOKEN.queues[0]}, {FIRST_TOKEN.uses} workers, 24 h):",
        "",
        f"  echo {token} | edge-worker enroll --relay-url {facts.relay_url} --ca-file '{facts.ca_file}'",
        "",
        "More tokens, and the workers there are:",
        "",
        f"  edge-relay enroll-token create --data-dir '{data_dir}' --queues default --site laptop",
        f"  edge-relay workers list --data-dir '{data_dir}'",
        "",
    ]


async def _until_ready(complete: asyncio.Event) -> None:
    """The replica has read its credentials: from here on it knows who may call."""
    try:
        async with asyncio.timeout(CONNECT_S):
            await complete.wait()
    except TimeoutError:
        raise StandaloneFailed(f"the relay did not reach nats-server within {CONNECT_S:g} s; see its log") from None


async def _provision(url: str, place: _Place) -> str:
    """Streams, the access token, and a fresh enrolment token."""
    async with Broker(BrokerSettings((url,), ADMIN, place.passwords[ADMIN])) as broker:
        await broker.wait_connected(CONNECT_S)
        await layout.apply(broker, layout.LayoutSettings())
        store, now = AccessStore(broker), datetime.now(UTC)
        await store.ensure_access_token(read_secret(place.access_token), "standalone", now=now)
        return (await store.create_enroll_token(FIRST_TOKEN, now=now)).token


def _make_secrets(data_dir: Path) -> dict[str, str]:
    directory = make_private_dir(data_dir / "secrets")
    read_or_make(directory / "gate.secret", secrets.token_urlsafe(32))
    read_or_make(directory / "access.token", new_secret(SecretKind.ACCESS))
    return {role: read_or_make(directory / f"{role}.password", secrets.token_urlsafe(32)) for role in ROLES}


def _relay_settings(options: Options, base: Settings, place: _Place, nats_url: str) -> tuple[Settings, tls.TlsFiles]:
    given = base.model_fields_set
    host = options.host or (base.host if "host" in given else LOOPBACK)
    port = options.port if options.port is not None else (base.port if "port" in given else None)
    operators = options.operator_port
    if operators is None and "operators_port" in given:
        operators = base.operators_port
    public_host = urlsplit(options.public_url).hostname if options.public_url else None
    names = [LOOPBACK, "::1", "localhost", socket.gethostname(), *options.tls_hosts]
    names += [name for name in (host, public_host) if name and name not in _WILDCARDS]
    files = tls.ensure(place.data_dir / "tls", names, now=datetime.now(UTC))
    workers_port = choose_port(host, port, DEFAULT_PORT, "--port")
    operators_port = choose_port(
        base.operators_host, operators, DEFAULT_OPERATOR_PORT, "--operator-port", besides=workers_port
    )
    changes: dict[str, object] = {
        "host": host,
        "port": workers_port,
        "operators_port": operators_port,
        "tls_cert_file": files.cert,
        "tls_key_file": files.key,
        "nats_urls": (nats_url,),
        "nats_password_file": place.secrets_dir / f"{RELAY}.password",
        "gate_urls": options.gate_urls or base.gate_urls or (DEFAULT_GATE_URL,),
        "gate_key_file": place.gate_secret,
    }
    return Settings.model_validate({**dict(base), **changes}), files


def _public_url(given: str | None, host: str, port: int | None) -> str:
    if given is not None:
        return given.rstrip("/")
    name = socket.gethostname() if host in _WILDCARDS else host
    return f"https://{f'[{name}]' if ':' in name else name}:{port}"


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the data folder; the system lets go of it when the process ends, however that happens."""
    with (data_dir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = f"another 'edge-relay standalone' uses {data_dir}: stop it, or choose another --data-dir"
            raise StandaloneFailed(text) from None
        yield
