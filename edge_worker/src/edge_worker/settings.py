"""All settings of the worker, from flags, environment and a TOML file, in that order of precedence.

The only module that reads the process's environment. Every field is also the flag `--name-of-field` and the variable
`EDGE_WORKER_NAME_OF_FIELD`; a variable that is set to nothing counts as not set.
"""

import json
import os
import sys
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

from edge_schemas.wire.polls import MAX_POLL_TIMEOUT_S, MAX_SLOTS

PREFIX = "EDGE_WORKER_"
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
_FOR_INSTALLERS = frozenset(
    {"PATH", "HOME", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "XDG_CONFIG_HOME", "NETRC"}
)
_ELSEWHERE = frozenset({"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_DRY_RUN"})
_PROXY_NAMES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


class SettingsError(Exception):
    """A setting is missing or wrong. The text names the setting and what to do; the process ends with status 2."""


def _json_or_map(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        msg = f"is no JSON object: {error}"
        raise ValueError(msg) from None


def _comma_separated(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _expanded(value: object) -> object:
    return Path(value).expanduser().absolute() if isinstance(value, str | Path) else value


def _in_real_folder(path: Path) -> Path:
    """Links to folders are followed once, at the start: what runs must not change under a task host's feet.

    A link in the last place stays, for a virtual environment is known by it.
    """
    return path.parent.resolve() / path.name


LocalPath = Annotated[Path, BeforeValidator(_expanded)]


class Settings(BaseModel):
    """What an owner decides about one worker. Its name, queues, site and team are decided at the centre."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    relay_url: str | None = Field(
        default=None,
        description="Address of the relay, `https://host[:port]`. `http://` is allowed for loopback addresses only. "
        "Once enrolled, the worker remembers it.",
    )
    state_dir: LocalPath = Field(
        default_factory=lambda: _default_state_dir(os.environ),
        description="Folder with the worker's identity, its jobs and their logs; made with mode 0700. Default: "
        "`/var/lib/edge-worker` for root, else `$XDG_STATE_HOME/edge-worker` or `~/.local/state/edge-worker`.",
    )
    runtime_dir: LocalPath | None = Field(
        default=None,
        description="Folder of the local gateway's Unix socket and of the lease, which tells tasks whose agent is dead "
        "how long they may go on; made with mode 0700. The path must be short, because "
        "the name of a Unix socket has at most 107 bytes. Default: a folder below `$XDG_RUNTIME_DIR` or `/tmp`, one "
        "per state folder.",
    )
    slots: int = Field(
        default_factory=lambda: min(os.cpu_count() or 1, MAX_SLOTS),
        ge=1,
        le=MAX_SLOTS,
        description="How many jobs run at once. Default: the number of CPUs.",
    )
    runtime_python: Annotated[LocalPath, AfterValidator(_in_real_folder)] = Field(
        default_factory=lambda known: _default_runtime_python(known.get("state_dir")),
        description="The Python interpreter that has Airflow. Default: the one that `edge-worker runtime install` made "
        "in the state folder, else the one that runs the worker.",
    )
    bundles: Annotated[dict[str, LocalPath], BeforeValidator(_json_or_map)] = Field(
        default_factory=dict,
        description="Where the files of each DAG bundle are on this machine, as a JSON object: "
        '`{"dags-folder": "/srv/dags"}`.',
    )
    ca_file: LocalPath | None = Field(
        default=None,
        description="PEM file with further certificate authorities to trust for the relay, in addition to the "
        "system's: your own authority, or the one of a proxy that inspects TLS.",
    )
    proxy_url: str | None = Field(
        default=None,
        description="Forward proxy to the relay, `http://host:port` or `https://host:port`; wins over `HTTPS_PROXY` "
        "and `ALL_PROXY`. With a proxy set the worker never connects directly.",
    )
    proxy_user: str | None = Field(default=None, description="User name for the proxy (basic authentication).")
    proxy_password_file: LocalPath | None = Field(
        default=None, description="File with the password for the proxy; a trailing line break is ignored."
    )
    proxy_ca_file: LocalPath | None = Field(
        default=None, description="PEM file with the authority of the proxy's own certificate, for `https://` proxies."
    )
    no_proxy: str | None = Field(
        default=None,
        description="Hosts that are reached without a proxy: names, `.suffixes`, addresses, networks (`10.0.0.0/8`), "
        "each with an optional `:port`, or `*`. Wins over `NO_PROXY`; a `proxy_url` is subject to this setting only.",
    )
    task_env: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        default=(),
        description="Names of environment variables that tasks get besides the basic ones, separated by commas. User "
        "names and passwords in proxy variables are left out.",
    )
    grace_s: float = Field(
        default=5,
        ge=0,
        le=3600,
        description="Seconds between SIGTERM and SIGKILL when a job is stopped. Fewer where the queue's offline "
        "tolerance would be over before.",
    )
    drain_timeout_s: float | None = Field(
        default=None,
        ge=0,
        description="Seconds that a draining worker waits until its jobs have ended and the relay has their outcomes "
        "and logs. Then it stops the jobs, and leaves within `grace_s` and ten seconds more; what the relay does not "
        "have by then stays on disk and is delivered after the next start. Default: without limit, also while the "
        "relay cannot be reached.",
    )
    poll_timeout_s: float = Field(
        default=MAX_POLL_TIMEOUT_S,
        ge=5,
        le=MAX_POLL_TIMEOUT_S,
        description="Longest time that a poll is held open. It is shortened by itself where something on the way "
        "cuts it, and while the worker has a job of a queue with a short offline tolerance.",
    )
    log_keep_days: float = Field(
        default=3, ge=0, description="Days for which the folder of an ended job, with its log, is kept on this machine."
    )
    log_max_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=64 * 1024,
        description="The most that the log of one job takes on this machine's disk. Of a longer one the oldest lines "
        "are dropped, uploaded or not; what was not uploaded is counted in the log that Airflow shows.",
    )
    spool_max_bytes: int = Field(
        default=1024 * 1024 * 1024,
        ge=1024 * 1024,
        description="The most that all ended jobs together take on this machine's disk. The oldest are removed first; "
        "logs that wait for their upload come last, and what is dropped of them is counted in the log that Airflow "
        "shows.",
    )
    disk_reserve_bytes: int = Field(
        default=200 * 1024 * 1024,
        ge=0,
        description="With less than this free on the disk of the state folder the worker takes no jobs. Those that run "
        "go on.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe events that the worker logs."
    )
    enroll_token: SecretStr | None = Field(
        default=None,
        description="Enrolment token, from the environment only. `run` enrols itself with it if the worker has no "
        "identity yet.",
        json_schema_extra={"flag": False},
    )
    enroll_token_file: LocalPath | None = Field(
        default=None, description="File with an enrolment token; `-` stands for standard input with `enroll`."
    )

    @field_validator("relay_url")
    @classmethod
    def _check_relay_url(cls, value: str | None) -> str | None:
        return None if value is None else check_relay_url(value)

    @field_validator("task_env")
    @classmethod
    def _check_task_env(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if own := [name for name in value if name.upper().startswith(PREFIX)]:
            msg = f"{', '.join(own)}: the worker's own variables are not for tasks"
            raise ValueError(msg)
        return value


def runtimes_dir(state_dir: Path) -> Path:
    """Where `edge-worker runtime install` puts runtimes unless it is told otherwise."""
    return state_dir / "runtime"


def _default_runtime_python(state_dir: Path | None) -> Path:
    own = Path(sys.executable)
    if state_dir is None:  # which is an error of its own
        return own
    installed = runtimes_dir(state_dir) / "current" / "bin" / "python"
    return installed.parent.resolve() / installed.name if os.access(installed, os.X_OK) else own


def check_relay_url(url: str) -> str:
    """The URL without a trailing slash.

    Raises:
        ValueError: It is no URL, not `https://host[:port]`, or `http://` to anything but a loopback address.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = "must look like https://relay.example.com"
        raise ValueError(msg)
    # Looked at for the error that a port out of range raises here and nowhere before the first call.
    _ = parts.port
    if parts.username is not None or parts.query or parts.fragment:
        msg = "must not hold a user, a query or a fragment"
        raise ValueError(msg)
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        msg = "must be https:// (http:// is allowed for loopback addresses only)"
        raise ValueError(msg)
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_settings(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    config: Path | None = None,
) -> Settings:
    """Settings from flags, then environment, then a TOML file.

    Args:
        flags: By field name; `None` means that the flag was not given.
        environ: The process's environment unless given.
        config: The TOML file; also `EDGE_WORKER_CONFIG`.

    Raises:
        SettingsError: A value is wrong or the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    config = config or (Path(environ[PREFIX + "CONFIG"]) if environ.get(PREFIX + "CONFIG") else None)
    values: dict[str, Any] = _from_file(config) if config else {}
    values |= {
        name: environ[PREFIX + name.upper()] for name in Settings.model_fields if environ.get(PREFIX + name.upper())
    }
    values |= {name: value for name, value in (flags or {}).items() if value is not None}
    if "state_dir" not in values:
        values["state_dir"] = _default_state_dir(environ)
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def setting_sources(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    config: Path | None = None,
) -> dict[str, str]:
    """Who gives each setting that is not left to its default, in words; the arguments are those of `load_settings`.

    Raises:
        SettingsError: The file cannot be read.
    """
    environ = os.environ if environ is None else environ
    config = config or (Path(environ[PREFIX + "CONFIG"]) if environ.get(PREFIX + "CONFIG") else None)
    found = dict.fromkeys(_from_file(config), f"the file {config}") if config else {}
    found |= {
        name: f"the variable {PREFIX}{name.upper()}"
        for name in Settings.model_fields
        if environ.get(PREFIX + name.upper())
    }
    return found | {
        name: f"the option --{name.replace('_', '-')}" for name, value in (flags or {}).items() if value is not None
    }


def variable_names(environ: Mapping[str, str] | None = None) -> frozenset[str]:
    """The names of all variables that are set to something; their values may be secrets of others."""
    environ = os.environ if environ is None else environ
    return frozenset(name for name, value in environ.items() if value)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        msg = f"the settings file {path} cannot be read: {error}"
        raise SettingsError(msg) from None
    if "enroll_token" in values:
        msg = f"{path}: enroll_token belongs into the environment or a file of its own (enroll_token_file)"
        raise SettingsError(msg)
    return values


def _explain(error: ValidationError) -> str:
    """What is wrong, without the value: it may be a secret."""
    lines = []
    for fault in error.errors(include_input=False, include_url=False):
        name = str(fault["loc"][0]) if fault["loc"] else "?"
        text = fault["msg"].removeprefix("Value error, ")
        lines.append(f"{name} (--{name.replace('_', '-')}, {PREFIX}{name.upper()}): {text}")
    return "\n".join(lines)


def _default_state_dir(environ: Mapping[str, str]) -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/edge-worker")
    base = environ.get("XDG_STATE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".local" / "state") / "edge-worker"
    except RuntimeError:
        # A container that runs as a user without a name.
        msg = "this user has no home folder; say where the worker keeps its state: --state-dir"
        raise SettingsError(msg) from None


def runtime_base(environ: Mapping[str, str] | None = None) -> Path | None:
    """`$XDG_RUNTIME_DIR` if it is there, else None."""
    named = (os.environ if environ is None else environ).get("XDG_RUNTIME_DIR")
    return Path(named) if named and Path(named).is_dir() else None


def proxy_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that name a proxy, as they are set. `HTTP_PROXY` in capitals is not among them: CGI sets it."""
    environ = os.environ if environ is None else environ
    return {name: environ[name] for name in _PROXY_NAMES if name in environ}


def installer_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What pip gets of the agent's environment: an allow-list with pip's own variables, without proxies.

    Those of pip that would have it install somewhere else are left out.
    """
    environ = os.environ if environ is None else environ
    return {
        name: value
        for name, value in environ.items()
        if name in _FOR_INSTALLERS or name.startswith("LC_") or (name.startswith("PIP_") and name not in _ELSEWHERE)
    }


def task_environment(settings: Settings, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What tasks see of the agent's environment: an allow-list, `task_env`, and no credential of ours."""
    environ = os.environ if environ is None else environ
    wanted = {*_PASSED_ON, *settings.task_env}
    passed = {name: value for name, value in environ.items() if name in wanted or name.startswith("LC_")}
    return {
        name: _without_userinfo(value) if name.lower().endswith("_proxy") else value for name, value in passed.items()
    }


def _without_userinfo(proxy: str) -> str:
    scheme, separator, rest = proxy.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]
