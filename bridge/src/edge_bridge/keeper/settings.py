"""The keeper's settings, read once from Airflow's configuration when it starts."""

import math
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from edge_bridge.keeper.bundles.settings import BundleSettings, bundle_settings
from edge_bridge.keeper.gate.centre import LockUnreadable, read_lock
from edge_bridge.keeper.task_heartbeats import HeartbeatSettings
from edge_bridge.settings import SECTION, Conf, SettingsError, broker_settings, port, positive, secret, text
from edge_bridge.signing.settings import SigningSettings, signing_settings
from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import KEEPER
from edge_schemas.gate.limits import LEAST_MAX_CALL_BYTES, LEAST_MAX_PATH_BYTES, CallLimits
from edge_service.body_memory import LARGE_SHARE

DEFAULT_API_URL = "http://localhost:8080/execution/"
MIN_SECRET_CHARS = 32


@dataclass(frozen=True, slots=True)
class KeeperSettings:
    """All settings of a keeper."""

    broker: BrokerSettings
    gate_host: str
    gate_port: int
    gate_secret: bytes = field(repr=False)
    execution_api_url: str
    heartbeats: HeartbeatSettings
    runtime_lock: Path | None = None
    limits: CallLimits = field(default_factory=CallLimits)
    body_memory_bytes: int = 256 << 20
    worker_body_memory_bytes: int = 96 << 20
    signing: SigningSettings = field(default_factory=SigningSettings)
    bundles: BundleSettings = field(default_factory=BundleSettings)


def keeper_settings(conf: Conf) -> KeeperSettings:
    """The keeper's settings.

    Raises:
        SettingsError: One is missing or wrong.
    """
    key = secret(conf, "gate_secret", "gate.secret")
    if len(key) < MIN_SECRET_CHARS:
        raise SettingsError(f"[{SECTION}] gate_secret has fewer than {MIN_SECRET_CHARS} characters: use a random one")
    return KeeperSettings(
        broker=broker_settings(conf, KEEPER),
        gate_host=text(conf, "gate_host"),
        gate_port=port(conf, "gate_port"),
        gate_secret=key.encode(),
        execution_api_url=api_url(conf),
        heartbeats=HeartbeatSettings(timedelta(seconds=_heartbeat_timeout_s(conf))),
        runtime_lock=_runtime_lock(conf),
        limits=(limits := _call_limits(conf)),
        body_memory_bytes=_at_least(conf, "body_memory_bytes", math.ceil(limits.max_call_bytes / LARGE_SHARE)),
        worker_body_memory_bytes=_at_least(conf, "worker_body_memory_bytes", limits.max_call_bytes),
        signing=signing_settings(conf),
        bundles=bundle_settings(conf),
    )


def api_url(conf: Conf) -> str:
    """The URL of the Execution API.

    Raises:
        SettingsError: It is no URL.
    """
    url = text(conf, "execution_api_url") or conf.get("core", "execution_api_server_url", fallback=None)
    url = url or DEFAULT_API_URL
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"[{SECTION}] execution_api_url must begin with http:// or https://")
    return url


def _runtime_lock(conf: Conf) -> Path | None:
    """The file is read here too: a keeper that can't serve it should not start."""
    if not (value := text(conf, "runtime_lock")):
        return None
    path = Path(value)
    try:
        read_lock(path)
    except LockUnreadable as error:
        raise SettingsError(f"[{SECTION}] runtime_lock: {error}") from None
    return path


def _call_limits(conf: Conf) -> CallLimits:
    return CallLimits(
        _at_least(conf, "max_call_bytes", LEAST_MAX_CALL_BYTES),
        _at_least(conf, "max_path_bytes", LEAST_MAX_PATH_BYTES),
        f"[{SECTION}] max_call_bytes",
        f"[{SECTION}] max_path_bytes",
    )


def _at_least(conf: Conf, option: str, least: int) -> int:
    if (value := positive(conf, option)) < least:
        raise SettingsError(f"[{SECTION}] {option} is {value}, must be at least {least}")
    return value


def _heartbeat_timeout_s(conf: Conf) -> float:
    value = conf.get("scheduler", "task_instance_heartbeat_timeout") or ""
    try:
        return float(value)
    except ValueError:
        raise SettingsError(f"[scheduler] task_instance_heartbeat_timeout is {value!r}, must be a number") from None
