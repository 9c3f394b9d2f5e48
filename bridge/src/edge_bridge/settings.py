"""Reads the `[edge_relay]` section; each component does so once, when it starts."""

import ssl
from pathlib import Path
from typing import Protocol

from edge_broker.connection.settings import BrokerSettings
from edge_service.text_files import NotText, read_text_file

SECTION = "edge_relay"


class SettingsError(Exception):
    """A setting is missing or wrong; the text names it and the remedy."""


class Conf(Protocol):
    """Airflow's configuration, or an executor's view of it, with the team's own values."""

    def get(self, section: str, key: str, *, fallback: str | None = ...) -> str | None:
        """An option's value, or its default."""
        ...


def broker_settings(conf: Conf, role: str) -> BrokerSettings:
    """The settings with which a component connects to NATS, as the user of its role.

    Raises:
        SettingsError: No server is named, the role's password is missing or the CA file can't be used.
    """
    urls = tuple(url.strip() for url in text(conf, "nats_urls").split(",") if url.strip())
    if not urls:
        raise SettingsError(f"[{SECTION}] nats_urls is empty: name at least one NATS server")
    return BrokerSettings(
        urls=urls,
        role=role,
        password=secret(conf, f"{role}_password", f"{role}.password"),
        ca_file=_ca_file(conf),
    )


def _ca_file(conf: Conf) -> Path | None:
    """Loaded here for a check: a connection in the background could only log the error, again and again."""
    if not (path := text(conf, "nats_ca_file")):
        return None
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"[{SECTION}] nats_ca_file: {path} can't be used: {error}") from error
    return Path(path)


def secret(conf: Conf, option: str, file: str) -> str:
    """A secret from its option or from its file in `secrets_dir`.

    Raises:
        SettingsError: It is in neither place.
    """
    if value := text(conf, option):
        return value
    folder = text(conf, "secrets_dir")
    if not folder:
        raise SettingsError(f"set [{SECTION}] {option}, or [{SECTION}] secrets_dir to the folder that holds {file}")
    try:
        value = read_text_file(Path(folder) / file).strip()
    except NotText as error:
        raise SettingsError(f"[{SECTION}] {option}: {Path(folder) / file}: {error}") from None
    except OSError as error:
        raise SettingsError(
            f"[{SECTION}] {option} is not set and {Path(folder) / file} can't be read: {error.strerror}"
        ) from error
    if not value:
        raise SettingsError(f"{Path(folder) / file} is empty")
    return value


def positive(conf: Conf, option: str) -> int:
    """A whole number above 0.

    Raises:
        SettingsError: It is none.
    """
    value = text(conf, option)
    if not value.isascii() or not value.isdigit() or int(value) == 0:
        raise SettingsError(f"[{SECTION}] {option} is {value!r}, must be a whole number above 0")
    return int(value)


def port(conf: Conf, option: str) -> int:
    """A TCP port; 0 stands for a free one.

    Raises:
        SettingsError: It is none.
    """
    value = text(conf, option)
    if not value.isascii() or not value.isdigit() or int(value) > 65535:
        raise SettingsError(f"[{SECTION}] {option} is {value!r}, must be a TCP port")
    return int(value)


def text(conf: Conf, option: str) -> str:
    """An option as text; empty if it is not set."""
    return (conf.get(SECTION, option) or "").strip()
