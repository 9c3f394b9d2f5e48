"""The relay's settings, from the environment (`RELAY_…`) or the command line; loaded once and passed down."""

import os
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from edge_broker.connection.settings import BrokerSettings
from edge_broker.permissions import RELAY
from edge_relay.limits.producer_settings import ProducerLimitSettings
from edge_relay.limits.settings import LimitSettings
from edge_relay.setting_groups.bundle_settings import BundleSettings
from edge_relay.setting_groups.shown_settings import ShownSettings
from edge_relay.setting_groups.sign_in_settings import SignInSettings
from edge_schemas.gate.limits import (
    DEFAULT_MAX_CALL_BYTES,
    DEFAULT_MAX_PATH_BYTES,
    LEAST_MAX_CALL_BYTES,
    LEAST_MAX_PATH_BYTES,
    CallLimits,
)
from edge_schemas.wire.polls import MAX_POLL_TIMEOUT_S
from edge_service.text_files import NotText, read_text_file
from edge_ui.policy import SELF, check_frame_ancestors


class SettingsError(Exception):
    """A setting can't be used; the text names it and says what to change."""


def _default_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


class Settings(LimitSettings, ProducerLimitSettings, BundleSettings, ShownSettings, SignInSettings):
    """The settings of one replica. Secrets come from files, never from the environment or the command line."""

    model_config = SettingsConfigDict(
        env_prefix="RELAY_", frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    name: str = Field(
        default_factory=_default_name,
        max_length=120,
        description="Name of this replica in logs and in the entries of workers. Default: host and pid.",
    )
    host: str = Field(default="0.0.0.0", description="Address on which workers are served.")
    port: int = Field(default=8443, ge=0, le=65535, description="Port on which workers are served; 0 for any free one.")
    operators_host: str = Field(
        default="127.0.0.1", description="Address of the operators' listener: /v1/admin, /metrics. Keep it internal."
    )
    operators_port: int = Field(
        default=8444, ge=0, le=65535, description="Port of the operators' listener; 0 for any free one."
    )
    ui_frame_ancestors: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(SELF,),
        description="Which pages may show the dashboard in a frame, separated by commas: 'self', 'none' or origins "
        "such as https://airflow.example.",
    )
    tls_cert_file: Path | None = Field(
        default=None,
        description="PEM certificate chain of the workers' listener. Without it plain HTTP is served: "
        "use this only behind a load balancer that terminates TLS.",
    )
    tls_key_file: Path | None = Field(default=None, description="PEM private key of RELAY_TLS_CERT_FILE.")
    nats_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("nats://127.0.0.1:4222",),
        min_length=1,
        description="Servers of one NATS cluster, separated by commas, without credentials.",
    )
    nats_password_file: Path | None = Field(
        default=None, description="File with the password of the NATS user 'relay'. Required to serve."
    )
    nats_ca_file: Path | None = Field(default=None, description="PEM CA file for tls:// servers with a private CA.")
    gate_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Base URLs of the keepers' gates, separated by commas; if one is unreachable, the next is called. "
        "Without any, calls to the Execution API are refused.",
    )
    gate_key_file: Path | None = Field(
        default=None, description="File with the secret that relay and gate share. Required with RELAY_GATE_URLS."
    )
    gate_ca_file: Path | None = Field(default=None, description="PEM CA file for an https:// gate with a private CA.")
    gate_timeout_s: float = Field(
        default=60.0, gt=0, le=600, description="Seconds after which a call through the gate fails."
    )
    hold_s: float = Field(
        default=MAX_POLL_TIMEOUT_S,
        ge=0,
        le=MAX_POLL_TIMEOUT_S,
        description="Longest wait of a poll for its answer, in seconds. Keep it below the idle timeouts of proxies.",
    )
    max_call_bytes: int = Field(
        default=DEFAULT_MAX_CALL_BYTES,
        ge=LEAST_MAX_CALL_BYTES,
        le=1 << 30,
        description="Largest body in bytes of a task's call to the Execution API, and of its answer; larger ones are "
        "refused. Keepers and workers have a setting of the same name.",
    )
    max_path_bytes: int = Field(
        default=DEFAULT_MAX_PATH_BYTES,
        ge=LEAST_MAX_PATH_BYTES,
        le=1 << 20,
        description="Longest path and query together, in bytes, of a task's call to the Execution API. Keepers and "
        "workers have a setting of the same name. Airflow's api-server accepts 64 KiB.",
    )
    stop_delay_s: float = Field(
        default=0.0,
        ge=0,
        le=300,
        description="Seconds between a failing /readyz and the end of listening, so that load balancers notice.",
    )
    stop_timeout_s: float = Field(
        default=20.0, gt=0, le=300, description="Seconds that calls in progress have to end when the relay stops."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest severity that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: JSON unless standard error is a terminal."
    )

    @field_validator("nats_urls", "gate_urls", "ui_frame_ancestors", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("ui_frame_ancestors")
    @classmethod
    def _check_frame_ancestors(cls, ancestors: tuple[str, ...]) -> tuple[str, ...]:
        return check_frame_ancestors(ancestors)

    @field_validator("nats_urls")
    @classmethod
    def _refuse_credentials(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        try:
            refuse_credentials("RELAY_NATS_URLS", urls)
        except SettingsError as error:
            raise ValueError(str(error)) from None
        return urls

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            msg = "RELAY_TLS_CERT_FILE and RELAY_TLS_KEY_FILE belong together: set both or none"
            raise ValueError(msg)
        if self.gate_urls and self.gate_key_file is None:
            msg = "RELAY_GATE_URLS needs RELAY_GATE_KEY_FILE, the secret that relay and gate share"
            raise ValueError(msg)
        return self

    def broker(self) -> BrokerSettings:
        """How to reach NATS.

        Raises:
            SettingsError: The password or the CA file can't be read.
        """
        password = read_secret("RELAY_NATS_PASSWORD_FILE", self.nats_password_file)
        check_ca_file("RELAY_NATS_CA_FILE", self.nats_ca_file)
        try:
            return BrokerSettings(self.nats_urls, RELAY, password.decode(), self.nats_ca_file)
        except UnicodeDecodeError:
            raise SettingsError(f"RELAY_NATS_PASSWORD_FILE: {self.nats_password_file} is not a text file") from None

    def call_limits(self) -> CallLimits:
        """The limits of calls to the Execution API."""
        return CallLimits(self.max_call_bytes, self.max_path_bytes, "RELAY_MAX_CALL_BYTES", "RELAY_MAX_PATH_BYTES")

    def gate_key(self) -> bytes:
        """The secret that relay and gate share.

        Raises:
            SettingsError: It can't be read.
        """
        return read_secret("RELAY_GATE_KEY_FILE", self.gate_key_file)


def read_secret(setting: str, path: Path | None) -> bytes:
    """The content of a file that a setting names, without surrounding white space.

    Raises:
        SettingsError: There is no such setting or file, or it is empty.
    """
    if path is None:
        raise SettingsError(f"{setting} is not set")
    try:
        content = read_text_file(path).strip().encode()
    except OSError as error:
        raise SettingsError(f"{setting}: can't read {path}: {error.strerror}") from error
    except NotText as error:
        raise SettingsError(f"{setting}: {path}: {error}") from None
    if not content:
        raise SettingsError(f"{setting}: {path} is empty")
    return content


def refuse_credentials(setting: str, urls: Iterable[str]) -> None:
    """Refuse addresses that contain credentials: addresses are logged and quoted in errors.

    Raises:
        SettingsError: One may contain credentials.
    """
    if any("@" in url for url in urls):
        raise SettingsError(f"{setting} must not contain credentials; put the password into a file and name the file")


def check_ca_file(setting: str, path: Path | None) -> None:
    """Refuse a CA file with which every connection would fail; None is accepted.

    Raises:
        SettingsError: There is no such file, or it holds no certificate.
    """
    if path is None:
        return
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError as error:
        raise SettingsError(f"{setting}: can't use {path}: {error.strerror or error}") from error


class AdminSettings(BaseSettings):
    """The settings of commands for operators, which call `/v1/admin`."""

    model_config = SettingsConfigDict(
        env_prefix="RELAY_", frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    admin_url: str = Field(default="http://127.0.0.1:8444", description="Base URL of the operators' listener.")
    access_token_file: Path | None = Field(default=None, description="File with the operator's access token.")
    access_token: SecretStr | None = Field(
        default=None, description="The access token itself, where a file is not possible. The file has precedence."
    )
    admin_ca_file: Path | None = Field(default=None, description="PEM CA file for an https:// operators' listener.")


class NatsAdminSettings(BaseSettings):
    """The settings of commands that provision NATS."""

    model_config = SettingsConfigDict(
        env_prefix="RELAY_", frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    nats_urls: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("nats://127.0.0.1:4222",),
        min_length=1,
        description="Servers of a NATS cluster, without credentials.",
    )
    admin_password_file: Path | None = Field(
        default=None, description="File with the password of the NATS user 'admin'."
    )
    nats_ca_file: Path | None = Field(default=None, description="PEM CA file for tls:// servers with a private CA.")

    @field_validator("nats_urls", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
