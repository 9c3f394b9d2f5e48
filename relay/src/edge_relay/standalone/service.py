"""`edge-relay standalone`: nats-server and one relay in one command, with everything they need in one folder.

D/lock                  held while it runs
D/nats/                 configuration, log and store of nats-server
D/tls/                  development CA and the relay's certificate
D/secrets/              passwords of the NATS users, the secret shared with the gate, an access token, signing keys
D/standalone.json       addresses and files; exists only while the relay is up
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import structlog
import uvloop

from edge_broker import layout
from edge_broker.connection.broker import Broker
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import ADMIN
from edge_relay.identity.enrollment import EnrollmentStore
from edge_relay.identity.operators.access_tokens import AccessTokenStore
from edge_relay.serve import serving
from edge_relay.settings import Settings
from edge_relay.standalone.data_dir import DataDir, StandaloneFailed, locked, open_data_dir
from edge_relay.standalone.info import StandaloneInfo, remove_info, write_info
from edge_relay.standalone.nats_server import find_binary
from edge_relay.standalone.nats_supervisor import running_nats
from edge_relay.standalone.options import DEFAULT_NATS_PORT, LOOPBACK, Options, public_url, relay_settings
from edge_relay.standalone.ports import choose_port
from edge_schemas.wire.workers import EnrollTokenRequest
from edge_service.private_files import make_private_dir, read_secret
from edge_ui.paths import UI

log = structlog.get_logger(__name__)

CONNECT_S = 15.0
FIRST_TOKEN = EnrollTokenRequest(queues=("default",), site="laptop", uses=10, ttl_s=24 * 3600)


def run(options: Options, base: Settings, print_line: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT.

    Args:
        options: Of the command line.
        base: Settings of the environment; the command line wins.
        print_line: Prints a line for people.

    Raises:
        StandaloneFailed: The data folder is in use.
        SettingsError: See `serving` and `choose_port`.
        ServerMissing, ServerFailed, LayoutRefused, HostRefused: Their texts say what to do.
    """
    # Absolute: the written paths must be valid in other folders too.
    path = make_private_dir(Path(os.path.abspath(options.data_dir)))  # noqa: PTH100  # resolve() would follow links
    with locked(path), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        remove_info(path)
        try:
            runner.run(_run(options, base, path, print_line))
        except asyncio.CancelledError:
            raise StandaloneFailed("stopped before it was up") from None


async def _run(options: Options, base: Settings, path: Path, print_line: Callable[[str], None]) -> None:
    stop, loop, this = asyncio.Event(), asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None  # noqa: S101  # a coroutine runs in a task
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, this.cancel)
    async with running_standalone(options, base, path) as (info, token):
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        for line in greeting(info, token, path):
            print_line(line)
        await stop.wait()
        print_line(
            "Stopping: parked polls are answered, calls in progress end. A second signal ends the relay at once."
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@asynccontextmanager
async def running_standalone(options: Options, base: Settings, path: Path) -> AsyncIterator[tuple[StandaloneInfo, str]]:
    """Everything up while inside; yields the content of `standalone.json` and a new enrolment token."""
    data_dir = open_data_dir(path)
    binary = find_binary(options.nats_server)
    nats_port = choose_port(LOOPBACK, options.nats_port, DEFAULT_NATS_PORT, "--nats-port")
    settings, files = relay_settings(options, base, data_dir, f"nats://{LOOPBACK}:{nats_port}")
    async with running_nats(binary, path / "nats", data_dir.passwords, nats_port) as url:
        token = await _provision(url, data_dir)
        async with serving(settings) as relay:
            port = urlsplit(relay.workers_url).port
            info = StandaloneInfo(
                relay_url=public_url(options.public_url, settings.host, port),
                workers_url=public_url(None, settings.host, port),
                gate_urls=settings.gate_urls,
                operator_url=relay.operators_url,
                ca_file=files.ca_cert,
                nats_url=url,
                secrets_dir=data_dir.secrets_dir,
                gate_secret_file=data_dir.gate_secret,
                access_token_file=data_dir.access_token,
                pid=os.getpid(),
            )
            await _until_ready(relay.parts.identity.credentials.complete)
            write_info(path, info)
            try:
                yield info, token
            finally:
                remove_info(path)


def greeting(info: StandaloneInfo, token: str, path: Path) -> list[str]:
    """The lines that are printed once everything is up."""
    return [
        "Edge Relay is up.",
        "",
        f"  workers    {info.relay_url}",
        f"  CA file    {info.ca_file}   (workers need a copy)",
        f"  operators  {info.operator_url}{UI}   sign in with the access token in {info.access_token_file}",
        f"  NATS       {info.nats_url}   passwords in {info.secrets_dir}",
        "",
        f"Enrol a worker (this token: queue {FIRST_TOKEN.queues[0]}, {FIRST_TOKEN.uses} workers, 24 h):",
        "",
        f"  export EDGE_WORKER_CA_FILE='{info.ca_file}'",
        f"  echo {token} | edge-worker enroll --relay-url {info.relay_url}",
        "  edge-worker run",
        "",
        "Create more tokens, and list the workers:",
        "",
        f"  edge-relay enroll-token create --data-dir '{path}' --queues default --site laptop",
        f"  edge-relay workers list --data-dir '{path}'",
        "",
    ]


async def _until_ready(complete: asyncio.Event) -> None:
    """Wait until the replica has read its credentials: from then on it can authenticate callers."""
    try:
        async with asyncio.timeout(CONNECT_S):
            await complete.wait()
    except TimeoutError:
        raise StandaloneFailed(f"the relay did not reach nats-server within {CONNECT_S:g} s; see its log") from None


async def _provision(url: str, data_dir: DataDir) -> str:
    """Create streams, the access tokens and a new enrolment token."""
    async with Broker(BrokerSettings((url,), ADMIN, data_dir.passwords[ADMIN])) as broker:
        await broker.wait_connected(CONNECT_S)
        await layout.apply(broker, layout.LayoutSettings())
        now = datetime.now(UTC)
        tokens = AccessTokenStore(broker)
        await tokens.ensure(read_secret(data_dir.access_token), "standalone", now=now)
        await tokens.ensure(read_secret(data_dir.airflow_token), "airflow", now=now, for_airflow=True)
        return (await EnrollmentStore(broker).create_token(FIRST_TOKEN, now=now)).token
