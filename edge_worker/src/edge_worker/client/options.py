"""The options of consumers and producers: those settings of the agent that say how the relay is reached."""

from pathlib import Path
from typing import TypedDict

from edge_worker.environment import proxy_environment
from edge_worker.relay.client import RelayClient
from edge_worker.relay.link import Link
from edge_worker.relay.proxy import resolve_proxy
from edge_worker.relay.tls import tls_context
from edge_worker.settings import Settings, SettingsError
from edge_worker.settings_sources import load_settings


class Connection(TypedDict, total=False):
    """How the relay is reached. What is left out comes from the variables of the agent, such as `EDGE_WORKER_CA_FILE`.

    `HTTPS_PROXY` and `NO_PROXY` count as well. The meaning of each option is that of the agent's setting.
    """

    ca_file: str | Path | None
    proxy_url: str | None
    proxy_user: str | None
    proxy_password_file: str | Path | None
    proxy_ca_file: str | Path | None
    no_proxy: str | None


class ConsumerOptions(Connection, total=False):
    """How a consumer reaches the relay, how it enrols, and how it ends.

    `enroll_token`, or the content of `enroll_token_file`, is used if the state folder holds no identity yet.
    """

    enroll_token: str | None
    enroll_token_file: str | Path | None
    drain_timeout_s: float | None


def settings_of(**options: object) -> Settings:
    """The options as settings of the agent.

    Raises:
        SettingsError: One is wrong.
    """
    return load_settings(options)


def address_of(settings: Settings, known: str | None = None) -> str:
    """The address of the relay.

    Raises:
        SettingsError: There is none.
    """
    address = settings.relay_url or known
    if address is None:
        msg = "no relay is configured: pass relay_url, such as https://relay.example.com"
        raise SettingsError(msg)
    return address


def open_client(settings: Settings, relay_url: str, secret: str, link: Link) -> RelayClient:
    """A client that is not connected yet.

    Raises:
        SettingsError: A certificate file or a proxy cannot be used.
    """
    proxy = resolve_proxy(relay_url, settings, proxy_environment())
    return RelayClient(relay_url, secret, tls=tls_context(settings), proxy=proxy, link=link)
