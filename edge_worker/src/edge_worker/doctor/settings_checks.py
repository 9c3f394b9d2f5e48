"""The settings: which relay, which proxy, from which option, variable or file."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from edge_schemas.signing.key_sets import key_id
from edge_schemas.wire.jobs import AuxiliaryKind
from edge_service.findings import Finding, failed, ok, warning
from edge_worker.relay.proxy import Proxy, resolve_proxy
from edge_worker.settings import PREFIX, Settings, SettingsError
from edge_worker.signing.pinned_keys import owners_keys, read_pins
from edge_worker.state.state import Identity

READ, RELAY, PROXY = "settings.read", "settings.relay", "settings.proxy"
AUXILIARY = "settings.auxiliary"
COMMANDS = "settings.commands"
SIGNING = "settings.signing"
UNIT_ENVIRONMENT = Path("/etc/edge-worker/environment")
"""The file from which our systemd unit reads variables; a shell does not read it."""
_AS_THE_UNIT = (
    f"systemd-run --pipe --wait --uid=edge-worker --property=EnvironmentFile={UNIT_ENVIRONMENT} "
    "--setenv=EDGE_WORKER_STATE_DIR=/var/lib/edge-worker --setenv=EDGE_WORKER_RUNTIME_DIR=/run/edge-worker "
    "/opt/edge-worker/bin/edge-worker doctor"
)
_NOT_SETTINGS = {"CONFIG"}


@dataclass(frozen=True)
class SourcedSettings:
    """The settings and their sources.

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
        """The source of a setting."""
        return self.sources.get(name, "its default")


def unreadable(why: str) -> Finding:
    """The settings cannot be used at all."""
    return failed(READ, "; ".join(why.splitlines()), "Correct this setting; see docs/reference.")


def read_finding(sourced: SourcedSettings) -> Finding:
    """Which settings are set, and which variables only look like settings."""
    known = {name.upper() for name in Settings.model_fields} | _NOT_SETTINGS
    mistaken = sorted(
        name for name in sourced.variables if name.startswith(PREFIX) and name[len(PREFIX) :] not in known
    )
    if mistaken:
        names = sorted(PREFIX + one for one in known)
        guesses = {name: _similar(name, names) for name in mistaken}
        meant = [f"{name}: did you mean {' or '.join(guess)}?" for name, guess in guesses.items() if guess]
        detail = f"these variables are not settings and have no effect: {', '.join(mistaken)}"
        return warning(READ, detail, " ".join(meant) or "docs/reference/settings.md lists all settings.")
    given = ", ".join(f"{name} from {source}" for name, source in sorted(sourced.sources.items()))
    return ok(READ, given or "all settings have their defaults")


def _similar(name: str, names: Sequence[str]) -> list[str]:
    longer = [one for one in names if one.startswith(name)]
    return longer[:4] or difflib.get_close_matches(name, names, n=2)


def relay_url_of(sourced: SourcedSettings, identity: Identity | None) -> str | None:
    """The URL that the agent would use."""
    return sourced.settings.relay_url or (identity.relay_url if identity else None)


def relay_finding(sourced: SourcedSettings, identity: Identity | None) -> Finding:
    """Which relay the worker uses."""
    given = sourced.settings.relay_url
    if given is None and identity is None:
        return failed(RELAY, "no relay is configured", _how_to_set_relay())
    if given is None:
        assert identity is not None  # noqa: S101 - for the type checker
        return ok(RELAY, f"the relay is {identity.relay_url}, remembered from the enrolment")
    source = sourced.source("relay_url")
    if identity is not None and identity.relay_url != given:
        detail = f"the relay is {given} from {source}, while this worker was enrolled at {identity.relay_url}"
        advice = f"If both are the same relay, nothing is wrong; else remove it from {source}, or enrol with --renew."
        return warning(RELAY, detail, advice)
    return ok(RELAY, f"the relay is {given} from {source}")


def _how_to_set_relay() -> str:
    advice = "Set its URL: --relay-url https://relay.example.com, or EDGE_WORKER_RELAY_URL."
    if UNIT_ENVIRONMENT.exists():
        advice += f" The settings of the service are in {UNIT_ENVIRONMENT}; to examine with them: {_AS_THE_UNIT}"
    return advice


def auxiliary_finding(sourced: SourcedSettings) -> Finding:
    """Which auxiliary jobs the owner allows: the centre cannot decide it."""
    allowed = sourced.settings.auxiliary_jobs
    others = [kind for kind in AuxiliaryKind if kind not in allowed]
    runs = f"runs auxiliary jobs of the kinds {', '.join(allowed)}" if allowed else "runs no auxiliary jobs"
    missing = f"; auxiliary_jobs would allow {', '.join(others)}" if others else ""
    return ok(AUXILIARY, f"this worker {runs}, by {sourced.source('auxiliary_jobs')}{missing}")


def commands_finding(sourced: SourcedSettings) -> Finding:
    """Which commands of producers the owner allows."""
    allowed = sourced.settings.commands
    if "*" in allowed:
        runs = "runs any command as its user"
    else:
        runs = f"runs the commands {', '.join(allowed)}" if allowed else "runs no commands"
    return ok(COMMANDS, f"this worker {runs}, by {sourced.source('commands')}")


def signing_finding(sourced: SourcedSettings, now: datetime) -> Finding:
    """Whose signatures the worker trusts, and since when."""
    settings = sourced.settings
    if settings.signed_jobs == "off":
        advice = "A relay or proxy that was taken over can have any task run here: remove signed_jobs."
        return warning(SIGNING, f"this worker checks no signatures, by {sourced.source('signed_jobs')}", advice)
    try:
        origin, keys = owners_keys(settings)
        pins = read_pins(settings.state_dir)
    except SettingsError as error:
        advice = "Set signing_keys again, or remove the file in the state folder to trust the relay's keys anew."
        return failed(SIGNING, str(error), advice)
    if origin is not None and (pins is None or pins.origin != origin):
        named = ", ".join(map(_short, keys)) or f"SHA256:{(settings.signing_key or '')[:16]}"
        return ok(SIGNING, f"this worker runs signed jobs only; its agent will trust {named} from its next start")
    if pins is None and settings.signed_jobs == "required":
        advice = "Set signing_keys to the file with the centre's public keys, or signing_key to a fingerprint."
        return failed(SIGNING, "signatures are required, and no key is trusted: no task runs here", advice)
    if pins is None:
        return ok(SIGNING, "this worker trusts no signing key: jobs are not checked until the centre has keys")
    if not pins.keys:
        advice = "Compare it with `airflow edge-relay signing-keys show`. The agent asks the relay again and again."
        return failed(SIGNING, "the key that signing_key names was not offered by the relay: no task runs here", advice)
    days = (now - pins.since).days
    trusted = ", ".join(map(_short, pins.trust.keys))
    begun = pins.origin.split()[0]
    return ok(SIGNING, f"this worker runs signed jobs only, by {trusted}; set {pins.serial}, {days} days, from {begun}")


def _short(key: bytes) -> str:
    return f"SHA256:{key_id(key)}"


def proxy_finding(sourced: SourcedSettings, relay_url: str) -> tuple[Finding, Proxy | None]:
    """Which proxy, from which setting; the proxy is None for a direct connection and if it cannot be used."""
    try:
        proxy = resolve_proxy(relay_url, sourced.settings, sourced.proxies)
    except SettingsError as error:
        return failed(PROXY, str(error), "Correct it. The worker never bypasses a proxy that it cannot use."), None
    if doubt := _doubt(sourced, relay_url, proxy):
        return warning(PROXY, *doubt), proxy
    if proxy is not None:
        login = "with a login" if proxy.headers else "without a login"
        return ok(PROXY, f"the proxy is {proxy.url} from {_proxy_source(sourced, proxy)}, {login}"), proxy
    if sourced.settings.proxy_url or any(
        not name.lower().startswith("no_") for name in sourced.proxies if sourced.proxies[name]
    ):
        host = urlsplit(relay_url).hostname
        named = "no_proxy" if sourced.settings.no_proxy is not None or sourced.settings.proxy_url else "NO_PROXY"
        return ok(PROXY, f"no proxy: {named} says that {host} is reached without one"), None
    return ok(PROXY, "no proxy is set: the worker connects directly"), None


def _doubt(sourced: SourcedSettings, relay_url: str, proxy: Proxy | None) -> tuple[str, str] | None:
    """A setting that is probably a mistake, and what to do."""
    if urlsplit(relay_url).scheme == "https" and proxy is None and sourced.settings.proxy_url is None:
        unused = [name for name in ("http_proxy", "HTTP_PROXY") if name in sourced.variables]
        if unused and not _proxy_for_https(sourced):
            named = " and ".join(unused)
            return (
                f"no proxy: {named} is set, which is for http:// addresses only, so the worker connects directly",
                "Set HTTPS_PROXY (or --proxy-url) to go through the proxy.",
            )
    for name in ("https_proxy", "all_proxy", "no_proxy"):
        one, other = sourced.proxies.get(name, ""), sourced.proxies.get(name.upper(), "")
        if one and other and one != other and sourced.settings.proxy_url is None:
            return f"{name} and {name.upper()} differ; the first one is used", "Remove one of the two."
    if proxy is not None and sourced.settings.proxy_user is not None and sourced.settings.proxy_password_file is None:
        return (
            f"the proxy is {proxy.url} from {_proxy_source(sourced, proxy)}: proxy_user is set without a password",
            "Name the file that holds the password: --proxy-password-file.",
        )
    return None


def _proxy_for_https(sourced: SourcedSettings) -> bool:
    return any(sourced.proxies.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"))


def _proxy_source(sourced: SourcedSettings, proxy: Proxy) -> str:
    return sourced.source("proxy_url") if proxy.source == "proxy_url" else f"the variable {proxy.source}"
