"""The settings of one worker: names, types, limits and defaults.

Each field is also the flag `--name-of-field` and the variable `EDGE_WORKER_NAME_OF_FIELD`; see `settings_sources`.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
)

from edge_schemas.bundles.manifest import MAX_BUNDLE_BYTES
from edge_schemas.gate.limits import (
    DEFAULT_MAX_CALL_BYTES,
    DEFAULT_MAX_PATH_BYTES,
    LEAST_MAX_CALL_BYTES,
    LEAST_MAX_PATH_BYTES,
    CallLimits,
)
from edge_schemas.wire.jobs import AuxiliaryKind
from edge_schemas.wire.polls import MAX_POLL_TIMEOUT_S, MAX_SLOTS

PREFIX = "EDGE_WORKER_"


class SettingsError(Exception):
    """A setting is missing or wrong. The text names the setting and the remedy; the process ends with status 2."""


def _json_or_map(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        msg = f"is not a JSON object: {error}"
        raise ValueError(msg) from None


def _comma_separated(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _expanded(value: object) -> object:
    return Path(value).expanduser().absolute() if isinstance(value, str | Path) else value


def _fingerprint(value: str | None) -> str | None:
    digits = None if value is None else value.removeprefix("SHA256:").lower()
    if digits is not None and not re.fullmatch(r"[0-9a-f]{64}", digits):
        msg = "must have 64 hexadecimal digits"
        raise ValueError(msg)
    return digits


def _in_real_folder(path: Path) -> Path:
    """Resolves links to folders once, at the start: a task host's runtime must not change while it runs.

    A link as the last part of the path is kept, because it identifies a virtual environment.
    """
    return path.parent.resolve() / path.name


LocalPath = Annotated[Path, BeforeValidator(_expanded)]


class Settings(BaseModel):
    """What the owner of a worker decides. Its name, queues, site and team are decided at the centre."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    relay_url: str | None = Field(
        default=None,
        description="Address of the relay, `https://host[:port]`. `http://` is allowed for loopback addresses only. "
        "Once enrolled, the worker remembers it.",
    )
    state_dir: LocalPath = Field(
        default_factory=lambda: default_state_dir(os.environ),
        description="Folder with the worker's identity, its jobs and their logs; made with mode 0700. Default: "
        "`/var/lib/edge-worker` for root, else `$XDG_STATE_HOME/edge-worker` or `~/.local/state/edge-worker`.",
    )
    runtime_dir: LocalPath | None = Field(
        default=None,
        description="Folder of the local gateway's Unix socket and of the lease, which limits how long tasks may "
        "continue while their agent is dead; made with mode 0700. The path must be short, because the name of a Unix "
        "socket has at most 107 bytes. Default: a folder below `$XDG_RUNTIME_DIR` or `/tmp`, one "
        "per state folder.",
    )
    slots: int = Field(
        default_factory=lambda: min(os.cpu_count() or 1, MAX_SLOTS),
        ge=1,
        le=MAX_SLOTS,
        description="How many jobs run at the same time. Default: the number of CPUs.",
    )
    runtime_python: Annotated[LocalPath, AfterValidator(_in_real_folder)] = Field(
        default_factory=lambda known: _default_runtime_python(known.get("state_dir")),
        description="The Python interpreter that has Airflow. Default: the one that `edge-worker runtime install` made "
        "in the state folder, else the interpreter of the worker.",
    )
    bundles: Annotated[dict[str, LocalPath], BeforeValidator(_json_or_map)] = Field(
        default_factory=dict,
        description="Where the files of DAG bundles are on this machine that are not published, as a JSON object: "
        '`{"dags-folder": "/srv/dags"}`. The code of published bundles is fetched.',
    )
    bundle_max_bytes: int = Field(
        default=MAX_BUNDLE_BYTES,
        ge=1024 * 1024,
        le=MAX_BUNDLE_BYTES,
        description="Largest version of a published DAG bundle, in bytes of its files, that is fetched. A task of a "
        "larger one fails.",
    )
    bundle_cache_max_bytes: int = Field(
        default=2 * 1024 * 1024 * 1024,
        ge=1024 * 1024,
        description="The most that versions of published DAG bundles together take on this machine's disk, in bytes of "
        "their files. The least recently used ones are removed first; those that jobs use are kept in any case.",
    )
    bundle_keep_days: float = Field(
        default=30,
        ge=0,
        description="Days for which a version of a published DAG bundle is kept that no job uses.",
    )
    bundle_requirements: bool = Field(
        default=False,
        description="Whether packages that published DAG bundles require are installed, with uv, in virtual "
        "environments below the state folder. Packages may be any code, so only the owner of the machine can allow it.",
    )
    ca_file: LocalPath | None = Field(
        default=None,
        description="PEM file with further certificate authorities to trust for the relay, in addition to the "
        "system's: your own authority, or that of a proxy that inspects TLS.",
    )
    proxy_url: str | None = Field(
        default=None,
        description="Forward proxy to the relay, `http://host:port` or `https://host:port`; overrides `HTTPS_PROXY` "
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
        "each with an optional `:port`, or `*`. Overrides `NO_PROXY`; a `proxy_url` is subject to this setting only.",
    )
    task_env: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        default=(),
        description="Names of environment variables that tasks get in addition to the basic ones, separated by commas. "
        "User names and passwords in proxy variables are removed.",
    )
    task_group: str | None = Field(
        default=None,
        description="Unix group whose members may read the DAG code, its packages and the runtime in the state folder: "
        "the users that tasks name with `run_as_user`. Default: only the worker's user.",
    )
    auxiliary_jobs: Annotated[tuple[AuxiliaryKind, ...], BeforeValidator(_comma_separated)] = Field(
        default=(),
        description="Which kinds of auxiliary jobs this worker runs: `callback`, `connection_test`, separated by "
        "commas. A callback is any function that the centre names, so only the owner of the machine can allow it. "
        "Default: none.",
    )
    commands: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        default=(),
        description="Which programs producers may run here as commands: names or absolute paths, separated by commas, "
        "or `*` for any. Commands run as the worker's user. Default: none.",
    )
    command_env: Annotated[tuple[str, ...], BeforeValidator(_comma_separated)] = Field(
        default=(),
        description="Names of environment variables that producers may set for the programs of `commands`, separated "
        "by commas. With `*` as `commands` they may set any.",
    )
    signed_jobs: Literal["auto", "required", "off"] = Field(
        default="auto",
        description="Whether this worker runs Airflow's jobs only if the executor has signed them: `required`; `auto` "
        "as soon as it knows the centre's keys, from this machine's owner or else from the relay, the first time that "
        "the relay has some; `off` never. With `required` it accepts no first keys from the relay.",
    )
    signing_keys: LocalPath | None = Field(
        default=None,
        description="PEM file with the public keys that sign jobs, from `airflow edge-relay signing-keys show --pem`. "
        "Newer keys are accepted if a known key has signed them.",
    )
    signing_key: Annotated[str | None, AfterValidator(_fingerprint)] = Field(
        default=None,
        description="Fingerprint of a key that signs jobs, 64 hexadecimal digits, instead of the file `signing_keys`: "
        "the relay then brings the key itself.",
    )
    signed_max_age_s: float = Field(
        default=14 * 86400,
        ge=60,
        le=366 * 86400,
        description="Seconds after its dispatch for which a signed job is accepted. The worker remembers for this time "
        "which jobs have run here, so that none is run twice.",
    )
    grace_s: float = Field(
        default=5,
        ge=0,
        le=3600,
        description="Seconds between SIGTERM and SIGKILL when a job is stopped. Fewer if the queue's offline tolerance "
        "would end earlier.",
    )
    drain_timeout_s: float | None = Field(
        default=None,
        ge=0,
        description="Seconds that a draining worker waits until its jobs have ended and the relay has their outcomes "
        "and logs. Then it stops the jobs, and exits within `grace_s` and ten seconds more; what the relay does not "
        "have by then stays on disk and is delivered after the next start. Default: no limit, even while the "
        "relay cannot be reached.",
    )
    poll_hold_s: float = Field(
        default=MAX_POLL_TIMEOUT_S,
        ge=5,
        le=MAX_POLL_TIMEOUT_S,
        description="Longest time that a poll is held open. The worker shortens it if the network path cuts long "
        "polls, and while it has a job of a queue with a short offline tolerance.",
    )
    max_call_bytes: int = Field(
        default=DEFAULT_MAX_CALL_BYTES,
        ge=LEAST_MAX_CALL_BYTES,
        description="Largest body in bytes of a task's call to the Execution API, and of its answer; larger ones are "
        "refused. Relays and keepers have a setting of the same name.",
    )
    max_path_bytes: int = Field(
        default=DEFAULT_MAX_PATH_BYTES,
        ge=LEAST_MAX_PATH_BYTES,
        le=1024 * 1024,
        description="Longest path and query together, in bytes, of a task's call to the Execution API. Relays and "
        "keepers have a setting of the same name. Airflow's api-server accepts 64 KiB.",
    )
    log_keep_days: float = Field(
        default=3, ge=0, description="Days for which the folder of an ended job, with its log, is kept on this machine."
    )
    log_max_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=64 * 1024,
        description="The most that the log of one job takes on this machine's disk. The oldest lines of a longer log "
        "are dropped, uploaded or not; the log in Airflow shows how much was not uploaded.",
    )
    spool_max_bytes: int = Field(
        default=1024 * 1024 * 1024,
        ge=1024 * 1024,
        description="The most that all ended jobs together take on this machine's disk. The oldest are removed first, "
        "logs that wait for their upload last; the log in Airflow shows how much of it was dropped.",
    )
    disk_reserve_bytes: int = Field(
        default=200 * 1024 * 1024,
        ge=0,
        description="With less than this free on the disk of the state folder, the worker accepts no jobs. Running "
        "jobs continue.",
    )
    max_clock_skew_s: float = Field(
        default=300,
        ge=5,
        description="Seconds by which this machine's clock may differ from the relay's. Beyond that, the worker "
        "accepts no jobs; running jobs continue.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe events that the worker logs."
    )
    enroll_token: SecretStr | None = Field(
        default=None,
        description="Enrolment token, from the environment only. `run` enrols the worker with it if it has no identity "
        "yet.",
        json_schema_extra={"flag": False},
    )
    enroll_token_file: LocalPath | None = Field(
        default=None, description="File with an enrolment token; `-` stands for standard input with `enroll`."
    )

    @property
    def call_limits(self) -> CallLimits:
        """The limits of calls to the Execution API."""
        names = f"{PREFIX}MAX_CALL_BYTES", f"{PREFIX}MAX_PATH_BYTES"
        return CallLimits(self.max_call_bytes, self.max_path_bytes, *names)

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
    """Where `edge-worker runtime install` puts runtimes by default."""
    return state_dir / "runtime"


def _default_runtime_python(state_dir: Path | None) -> Path:
    own = Path(sys.executable)
    if state_dir is None:  # reported as an error of `state_dir`
        return own
    installed = runtimes_dir(state_dir) / "current" / "bin" / "python"
    return installed.parent.resolve() / installed.name if os.access(installed, os.X_OK) else own


def check_relay_url(url: str) -> str:
    """The URL without a trailing slash.

    Raises:
        ValueError: It is not `https://host[:port]`, or `http://host[:port]` with a loopback address.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = "must look like https://relay.example.com"
        raise ValueError(msg)
    # Reading the port raises an error if it is out of range; otherwise only the first call would fail.
    _ = parts.port
    if parts.username is not None or parts.query or parts.fragment:
        msg = "must not contain a user, a query or a fragment"
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


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """The state folder where none is set.

    Raises:
        SettingsError: The user has no home folder.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/edge-worker")
    base = environ.get("XDG_STATE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".local" / "state") / "edge-worker"
    except RuntimeError:
        # The user of a container may have no name.
        msg = "this user has no home folder; set the folder for the worker's state: --state-dir"
        raise SettingsError(msg) from None
