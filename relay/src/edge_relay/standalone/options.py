"""The options of `edge-relay standalone`, and the relay's settings that follow from them."""

import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from edge_broker.permissions import RELAY
from edge_relay.settings import Settings
from edge_relay.standalone import tls
from edge_relay.standalone.data_dir import DataDir
from edge_relay.standalone.ports import choose_port

LOOPBACK = "127.0.0.1"
DEFAULT_PORT, DEFAULT_OPERATOR_PORT, DEFAULT_NATS_PORT = 8443, 8444, 4222
DEFAULT_GATE_URL = "http://127.0.0.1:8799"
_WILDCARDS = frozenset({"0.0.0.0", "::"})  # recognised, not bound


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line; None where an option is missing.

    Attributes:
        port: 0 chooses any free port; without the option the default or the next free one is used.
        tls_hosts: Names in the certificate, in addition to the standard ones.
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


def relay_settings(options: Options, base: Settings, data_dir: DataDir, nats_url: str) -> tuple[Settings, tls.TlsFiles]:
    """The relay's settings and its certificate, which is created or renewed here.

    Raises:
        SettingsError: A port is in use.
        HostRefused: A name can't be in the certificate.
    """
    given = base.model_fields_set
    host = options.host or (base.host if "host" in given else LOOPBACK)
    port = options.port if options.port is not None else (base.port if "port" in given else None)
    operators = options.operator_port
    if operators is None and "operators_port" in given:
        operators = base.operators_port
    public_host = urlsplit(options.public_url).hostname if options.public_url else None
    names = [LOOPBACK, "::1", "localhost", socket.gethostname(), *options.tls_hosts]
    names += [name for name in (host, public_host) if name and name not in _WILDCARDS]
    files = tls.ensure(data_dir.path / "tls", names, now=datetime.now(UTC))
    workers_port = choose_port(host, port, DEFAULT_PORT, "--port")
    operators_port = choose_port(
        base.operators_host, operators, DEFAULT_OPERATOR_PORT, "--operator-port", besides=workers_port
    )
    changes: dict[str, object] = {
        "host": host,
        "port": workers_port,
        "operators_port": operators_port,
        "public_url": public_url(options.public_url, host, workers_port),
        "public_ca_file": files.ca_cert,
        "tls_cert_file": files.cert,
        "tls_key_file": files.key,
        "nats_urls": (nats_url,),
        "nats_password_file": data_dir.secrets_dir / f"{RELAY}.password",
        "gate_urls": options.gate_urls or base.gate_urls or (DEFAULT_GATE_URL,),
        "gate_key_file": data_dir.gate_secret,
    }
    return Settings.model_validate({**dict(base), **changes}), files


def public_url(given: str | None, host: str, port: int | None) -> str:
    """The address for workers: the given one, else the listener's; a wildcard is replaced by the host's name."""
    if given is not None:
        return given.rstrip("/")
    name = socket.gethostname() if host in _WILDCARDS else host
    return f"https://{f'[{name}]' if ':' in name else name}:{port}"
