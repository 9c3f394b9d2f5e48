"""Commands that run until they are stopped: `serve` and `standalone`."""

from argparse import Namespace

from pydantic import ValidationError

from edge_broker.connection.errors import BrokerUnavailable
from edge_broker.layout import LayoutRefused
from edge_relay import serve as relay
from edge_relay.cli.output import EXIT_USAGE, Failure, print_line
from edge_relay.http.bodies import explain
from edge_relay.settings import Settings, SettingsError
from edge_relay.standalone.data_dir import DataDir, StandaloneFailed
from edge_relay.standalone.nats_server import ServerFailed, ServerMissing
from edge_relay.standalone.options import Options
from edge_relay.standalone.service import run as run_standalone
from edge_relay.standalone.tls import HostRefused
from edge_service.logging import configure_logging


def serve(options: Namespace) -> None:
    """`serve`."""
    given = {name: getattr(options, name) for name in Settings.model_fields}
    settings = _settings({name: value for name, value in given.items() if value is not None})
    configure_logging(settings.log_level, settings.log_format)
    try:
        relay.run(settings)
    except SettingsError as error:
        raise Failure(str(error), EXIT_USAGE) from None


def standalone(options: Namespace) -> None:
    """`standalone`."""
    # The gate's addresses may be in the environment; the secret is in the data folder, which may not exist yet.
    base = _settings({"gate_key_file": str(DataDir(options.data_dir, {}).gate_secret)})
    configure_logging(base.log_level, base.log_format)
    wanted = Options(
        data_dir=options.data_dir,
        host=options.host,
        port=options.port,
        operator_port=options.operator_port,
        nats_port=options.nats_port,
        public_url=options.public_url,
        tls_hosts=tuple(options.tls_host),
        gate_urls=tuple(options.gate_url),
        nats_server=options.nats_server,
    )
    try:
        run_standalone(wanted, base, print_line)
    except (SettingsError, HostRefused, ServerMissing) as error:
        raise Failure(str(error), EXIT_USAGE) from None
    except (StandaloneFailed, ServerFailed, LayoutRefused, BrokerUnavailable) as error:
        raise Failure(str(error)) from None


def _settings(given: dict[str, str]) -> Settings:
    """The settings from the options, else from the environment.

    Raises:
        Failure: A setting is wrong; the text names it.
    """
    try:
        return Settings(**given)  # type: ignore[arg-type]  # text, as from the environment; pydantic converts it
    except ValidationError as error:
        raise Failure(f"settings: {explain(error)}", EXIT_USAGE) from None
