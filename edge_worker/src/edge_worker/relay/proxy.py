"""Chooses the proxy for the relay.

The proxy is passed to aiohttp explicitly, because aiohttp's own reading of the environment connects *directly* in two
common cases: without `trust_env`, and for a proxy that is itself reached over TLS. A worker with a proxy set never
falls back to a direct connection: a proxy that cannot be used is an error.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from typing_extensions import override

from edge_service.text_files import NotText, read_text_file
from edge_worker.settings import Settings, SettingsError

_VARIABLES = {
    "https": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    "http": ("http_proxy", "all_proxy", "ALL_PROXY"),
}
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PORT = "[0-9]{1,5}"
"""`str.isdigit()` is true for more than `int()` understands."""


@dataclass(frozen=True)
class Proxy:
    """A forward proxy.

    Attributes:
        url: Without credentials; safe to log.
        authorization: Value of `Proxy-Authorization`; a secret.
        source: The setting or variable that named it, for the log.
    """

    url: str
    source: str
    authorization: str | None = None

    @override
    def __repr__(self) -> str:
        return f"Proxy(url={self.url!r}, source={self.source!r}, authenticates={self.authorization is not None})"

    @property
    def headers(self) -> dict[str, str] | None:
        """The headers for the proxy, in each request or CONNECT."""
        return {"Proxy-Authorization": self.authorization} if self.authorization else None


def resolve_proxy(relay_url: str, settings: Settings, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy for the relay; None for a direct connection.

    Args:
        relay_url: The address of the relay.
        settings: `proxy_url` overrides the environment and is subject to the `no_proxy` setting only.
        environment: From `proxy_environment()`. The lower-case spelling of a name overrides the other, as in curl.

    Raises:
        SettingsError: A proxy is named but cannot be used.
    """
    if settings.proxy_url:
        named, source, exceptions = settings.proxy_url, "proxy_url", settings.no_proxy or ""
    else:
        scheme = urlsplit(relay_url).scheme
        source = next((name for name in _VARIABLES[scheme] if name in environment), "")
        named = environment.get(source, "").strip()
        inherited = environment.get("no_proxy", environment.get("NO_PROXY", ""))
        exceptions = inherited if settings.no_proxy is None else settings.no_proxy
    if not named or bypasses(relay_url, exceptions):
        return None
    return _parse(named, source, settings)


def proxy_variables(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """The same proxies, as variables for a program that reads them from its environment. Contains the password.

    The program itself applies `no_proxy` to each host.

    Raises:
        SettingsError: See `resolve_proxy`.
    """
    all_hosts = settings.model_copy(update={"no_proxy": ""})
    proxies = {scheme: resolve_proxy(f"{scheme}://any.invalid", all_hosts, environment) for scheme in _VARIABLES}
    inherited = "" if settings.proxy_url else environment.get("no_proxy", environment.get("NO_PROXY", ""))
    exceptions = inherited if settings.no_proxy is None else settings.no_proxy
    found = {f"{scheme}_proxy": _with_credentials(proxy) for scheme, proxy in proxies.items() if proxy is not None}
    return {**found, "no_proxy": exceptions} if found else {}


def _with_credentials(proxy: Proxy) -> str:
    if proxy.authorization is None:
        return proxy.url
    user, _, password = base64.b64decode(proxy.authorization.removeprefix("Basic ")).decode().partition(":")
    scheme, _, address = proxy.url.partition("://")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{address}"


def _parse(named: str, source: str, settings: Settings) -> Proxy:
    text = named if "://" in named else f"http://{named}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        msg = f"{source}: must look like http://proxy.example.com:3128"
        raise SettingsError(msg) from None
    if parts.scheme not in _DEFAULT_PORTS:
        msg = f"{source}: a proxy of kind {parts.scheme or '?'!r} is not supported; use http:// or https://"
        raise SettingsError(msg)
    if not host:
        msg = f"{source}: must look like http://proxy.example.com:3128"
        raise SettingsError(msg)
    shown = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme}://{shown}:{port or _DEFAULT_PORTS[parts.scheme]}"
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    user, password = _explicit_credentials(settings, user, password)
    return Proxy(url=url, source=source, authorization=_basic(user, password) if user else None)


def _explicit_credentials(settings: Settings, user: str, password: str) -> tuple[str, str]:
    if settings.proxy_user is not None:
        user, password = settings.proxy_user, ""
    if settings.proxy_password_file is not None:
        password = _read_password(settings.proxy_password_file)
    return user, password


def _read_password(path: Path) -> str:
    try:
        return read_text_file(path).rstrip("\n")
    except (OSError, NotText) as error:
        msg = f"proxy_password_file cannot be read: {error}"
        raise SettingsError(msg) from None


def _basic(user: str, password: str) -> str:
    if ":" in user:
        msg = "the proxy's user name must not contain a colon"
        raise SettingsError(msg)
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bypasses(url: str, exceptions: str) -> bool:
    """Whether a `NO_PROXY` list exempts this URL from the proxy."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    return any(_matches(host, port, entry) for entry in re.split(r"[\s,]+", exceptions.strip().lower()) if entry)


def _matches(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    name, wanted_port = _split_port(entry)
    if wanted_port is not None and wanted_port != port:
        return False
    try:
        address = ip_address(host)
    except ValueError:
        suffix = name.removeprefix("*").strip(".")
        return bool(suffix) and (host == suffix or host.endswith(f".{suffix}"))
    try:
        return address in ip_network(name, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, int | None]:
    """A name or address and its port. A bare IPv6 address has colons but no port."""
    if match := re.fullmatch(rf"\[([^]]+)](?::({_PORT}))?", entry):
        return match[1], int(match[2]) if match[2] else None
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return (name, int(port)) if re.fullmatch(_PORT, port) else (entry, None)
    return entry, None
