"""How the page reaches the relay's operators' listener."""

import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from edge_bridge.settings import SECTION, Conf, SettingsError, secret, text

URLS, CA_FILE, TOKEN, TOKEN_FILE = "operators_urls", "operators_ca_file", "operators_token", "operators.token"
NEW_TOKEN = (
    f"create one with 'edge-relay access-token create --name airflow --for-airflow' and write it to {TOKEN_FILE} in "
    f"[{SECTION}] secrets_dir, or set [{SECTION}] {TOKEN}"
)
MAX_URLS = 16


@dataclass(frozen=True, slots=True)
class PageSettings:
    """The relays and the token for them.

    Attributes:
        urls: Base URLs of operators' listeners, without a trailing slash.
        token: An access token that was made for Airflow.
        tls: For `https://`.
    """

    urls: tuple[str, ...]
    token: str = field(repr=False)
    tls: ssl.SSLContext


def page_settings(conf: Conf) -> PageSettings:
    """Read the settings, the token's file included.

    Raises:
        SettingsError: One is missing or can't be used.
    """
    return PageSettings(operators_urls(conf), secret(conf, TOKEN, TOKEN_FILE), operators_tls(conf))


def operators_urls(conf: Conf) -> tuple[str, ...]:
    """The base URLs of the relays' operators' listeners.

    Raises:
        SettingsError: There is none, or one is no URL.
    """
    urls = tuple(url.strip().rstrip("/") for url in text(conf, URLS).split(",") if url.strip())
    if not urls:
        raise SettingsError(
            f"[{SECTION}] {URLS} is empty: name the operators' listener of each relay, such as http://relay:8444"
        )
    if len(urls) > MAX_URLS:
        raise SettingsError(f"[{SECTION}] {URLS} names {len(urls)} relays, at most {MAX_URLS} are possible")
    for url in urls:
        _check(url)
    return urls


def _check(url: str) -> None:
    """A URL that is not shown may hold a password."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        is_good, parts = False, urlsplit("")
    if not is_good:
        raise SettingsError(f"[{SECTION}] {URLS} must hold URLs such as http://relay:8444, separated by commas")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError(f"[{SECTION}] {URLS}: a URL must hold no user, password, query or fragment")


def operators_tls(conf: Conf) -> ssl.SSLContext:
    """Trusts the CA file of the settings, or the system's CAs.

    Raises:
        SettingsError: The file can't be used.
    """
    path = text(conf, CA_FILE)
    try:
        return ssl.create_default_context(cafile=path or None)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"[{SECTION}] {CA_FILE}: {path} can't be used: {error}") from error
