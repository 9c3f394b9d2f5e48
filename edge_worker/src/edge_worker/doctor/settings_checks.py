"""What the worker is told: which relay, which proxy, by which option, variable or file."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edge_service.findings import Finding, failed, ok, warning
from edge_worker.relay.proxy import Proxy, resolve_proxy
from edge_worker.settings import PREFIX, Settings, SettingsError
from edge_worker.state.state import Identity

READ, RELAY, PROXY = "settings.read", "settings.relay", "settings.proxy"
UNIT_ENVIRONMENT = Path("/etc/edge-worker/environment")
"""Where our systemd unit reads variables from, which a shell does not."""
_AS_THE_UNIT = (
    f"systemd-run --pipe --wait --uid=edge-worker --property=EnvironmentFile={UNIT_ENVIRONMENT} "
    "--setenv=EDGE_WORKER_STATE_DIR=/var/lib/edge-worker --setenv=EDGE_WORKER_RUNTIME_DIR=/run/edge-worker "
    "/opt/edge-worker/bin/edge-worker doctor"
)
_NOT_SETTINGS = {"CONFIG"}


@dataclass(frozen=True)
class Told:
    """The settings and where they come from.

    Attributes:
        sources: See `setting_sources`.
        variables: The names of all variables that are set.
        proxies: See `proxy_environment`.
    """

    settings: Settings
    sources: Mapping[str, str]
    variables: frozenset[str]
    proxies: Mapping[str, str]

    def source(self, name: str) -> str:
        """Who gives a setting."""
        return self.sources.get(name, "its default")


def unreadable(why: str) -> Finding:
    """The settings cannot be used at all."""
    return failed(READ, "; ".join(why.splitlines()), "Correct the setting that is named; see docs/reference.")


def read_finding(told: Told) -> Finding:
    """Which settings are given; what looks like one and is none."""
    known = {name.upper() for name in Settings.model_fields} | _NOT_SETTINGS
    mistaken = sorted(name for name in told.variables if name.startswith(PREFIX) and name[len(PREFIX) :] not in known)
    if mistaken:
        names = sorted(PREFIX + one for one in known)
        guesses = {name: _similar(name, names) for name in mistaken}
        meant = [f"{name}: did you mean {' or '.join(guess)}?" for name, guess in guesses.items() if guess]
        detail = f"no settings, and without effect: {', '.join(mistaken)}"
        return warning(READ, detail, " ".join(meant) or "docs/reference/settings.md lists all settings.")
    given = ", ".join(f"{name} from {source}" for name, source in sorted(told.sources.items()))
    return ok(READ, given or "all settings have their defaults")


def _similar(name: str, names: Sequence[str]) -> list[str]:
    longer = [one for one in names if one.startswith(name)]
    return longer[:4] or difflib.get_close_matches(name, names, n=2)


def relay_url_of(told: Told, identity: Identity | None) -> str | None:
    """As the agent decides it."""
    return told.settings.relay_url or (identity.relay_url if identity else None)


def relay_finding(told: Told, identity: Identity | None) -> Finding:
    """Which relay."""
    given = told.settings.relay_url
    if given is None and identity is None:
        return failed(RELAY, "nothing says which relay", _name_a_relay())
    if given is None:
        assert identity is not None  # noqa: S101 - for the type checker
        return ok(RELAY, f"the relay is {identity.relay_url}, remembered from the enrolment")
    source = told.source("relay_url")
    if identity is not None and identity.relay_url != given:
        detail = f"the relay is {given} from {source}, while this worker was enrolled at {identity.relay_url}"
        advice = f"If both are one relay, all is well; else remove it from {source}, or enrol anew (--renew)."
        return warning(RELAY, detail, advice)
    return ok(RELAY, f"the relay is {given} from {source}")


def _name_a_relay() -> str:
    advice = "Say which: --relay-url https://relay.example.com, or EDGE_WORKER_RELAY_URL."
    if UNIT_ENVIRONMENT.exists():
        advice += f" The settings of the service are in {UNIT_ENVIRONMENT}; to examine with them: {_AS_THE_UNIT}"
    return advice


def proxy_finding(told: Told, relay_url: str) -> tuple[Finding, Proxy | None]:
    """Which proxy, from which setting; the proxy is None for a direct connection and if it cannot be used."""
    try:
        proxy = resolve_proxy(relay_url, told.settings, told.proxies)
    except SettingsError as error:
        return failed(PROXY, str(error), "Correct it. The worker never goes around a proxy that it cannot use."), None
    if doubt := _doubt(told, relay_url, proxy):
        return warning(PROXY, *doubt), proxy
    if proxy is not None:
        login = "with a login" if proxy.headers else "without a login"
        return ok(PROXY, f"the proxy is {proxy.url} from {_proxy_source(told, proxy)}, {login}"), proxy
    if told.settings.proxy_url or any(
        not name.lower().startswith("no_") for name in told.proxies if told.proxies[name]
    ):
        host = urlsplit(relay_url).hostname
        named = "no_proxy" if told.settings.no_proxy is not None or told.settings.proxy_url else "NO_PROXY"
        return ok(PROXY, f"no proxy: {named} says that {host} is reached without"), None
    return ok(PROXY, "no proxy is set: the worker connects directly"), None


def _doubt(told: Told, relay_url: str, proxy: Proxy | None) -> tuple[str, str] | None:
    """What is set and probably not as it was meant."""
    if urlsplit(relay_url).scheme == "https" and proxy is None and told.settings.proxy_url is None:
        unused = [name for name in ("http_proxy", "HTTP_PROXY") if name in told.variables]
        if unused and not _proxy_for_https(told):
            named = " and ".join(unused)
            return (
                f"no proxy: {named} is set, which is for http:// addresses only, so the worker connects directly",
                "Set HTTPS_PROXY (or --proxy-url) to go through the proxy.",
            )
    for name in ("https_proxy", "all_proxy", "no_proxy"):
        one, other = told.proxies.get(name, ""), told.proxies.get(name.upper(), "")
        if one and other and one != other and told.settings.proxy_url is None:
            return f"{name} and {name.upper()} differ; the first one is used", "Remove one of the two."
    if proxy is not None and told.settings.proxy_user is not None and told.settings.proxy_password_file is None:
        return (
            f"the proxy is {proxy.url} from {_proxy_source(told, proxy)}: proxy_user is set without a password",
            "Name the file that holds the password: --proxy-password-file.",
        )
    return None


def _proxy_for_https(told: Told) -> bool:
    return any(told.proxies.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"))


def _proxy_source(told: Told, proxy: Proxy) -> str:
    return told.source("proxy_url") if proxy.source == "proxy_url" else f"the variable {proxy.source}"
