"""The settings with which the relay would run, and whether the files that they name can be used."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_broker.doctor.server_checks import ca_file_finding
from edge_broker.permissions import ADMIN, OPERATOR, RELAY
from edge_relay.serve import tls_context
from edge_relay.settings import Settings, SettingsError
from edge_relay.settings import read_secret as secret_of_setting
from edge_service.findings import Check, Finding, failed, known, ok, warning
from edge_service.private_files import read_secret

SETTINGS, NATS_PASSWORD, GATE_KEY = "settings.values", "settings.nats_password", "settings.gate_key"
TLS_FILES, MODES = "settings.tls_files", "settings.modes"
_OPEN_TO_OTHERS = stat.S_IWGRP | stat.S_IRWXO
"""A group may read: container platforms mount secrets like this."""


@dataclass(frozen=True, slots=True)
class Target:
    """The relay that is checked.

    Attributes:
        workers_url: Of its listener for workers, as seen from this machine; None if the system chooses the port.
        operators_url: Of its listener for operators, likewise.
        public_url: The address for workers, if it was given.
        ca_file: PEM CA file for the public URL; None uses the machine's CAs.
        people: Files with the passwords of the NATS users for people: the doctor then checks as these users too.
    """

    settings: Settings
    workers_url: str | None
    operators_url: str | None
    public_url: str | None
    ca_file: Path | None
    people: dict[str, Path]


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets that could be read.

    Attributes:
        passwords: Of NATS users by role. The relay's is empty if it can't be read.
        gate_key: None if there is none.
    """

    passwords: dict[str, str]
    gate_key: bytes | None


class SettingsDoctor:
    """Reads the files at its construction, so that the other checks can use their content."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._found: dict[str, Finding] = {}
        self.secrets = Secrets(self._read_passwords(), self._read_gate_key())

    def checks(self) -> Iterator[Check]:
        """The checks of the settings and their files."""
        ca_file = ca_file_finding("RELAY_NATS_CA_FILE", self._target.settings.nats_ca_file)
        files = (*self._found.values(), ca_file, self._tls_files(), self._modes())
        yield from map(known, (ok(SETTINGS, "settings can be used"), *files))

    def _read_passwords(self) -> dict[str, str]:
        passwords = {RELAY: ""}
        try:
            file = self._target.settings.nats_password_file
            passwords[RELAY] = secret_of_setting("RELAY_NATS_PASSWORD_FILE", file).decode()
            self._found[NATS_PASSWORD] = ok(NATS_PASSWORD, "there is a password of the NATS user relay")
        except (SettingsError, UnicodeDecodeError) as error:
            text = "Put the password that nats-server has for the user relay into a file and name the file."
            self._found[NATS_PASSWORD] = failed(NATS_PASSWORD, str(error), text)
        for role in (ADMIN, OPERATOR):
            if (path := self._target.people.get(role)) is None:
                continue
            check = f"settings.{role}_password"
            try:
                passwords[role] = read_secret(path)
            except (OSError, ValueError) as error:
                text = f"Correct --{role}-password-file, or leave it out: then the doctor checks as the relay only."
                self._found[check] = failed(check, f"{path}: {error}", text)
        return passwords

    def _read_gate_key(self) -> bytes | None:
        settings = self._target.settings
        if not settings.gate_urls:
            return None
        try:
            key = settings.gate_key()
        except SettingsError as error:
            text = "Give relay and keeper the same secret in a file, and name it in RELAY_GATE_KEY_FILE."
            self._found[GATE_KEY] = failed(GATE_KEY, str(error), text)
            return None
        self._found[GATE_KEY] = ok(GATE_KEY, "there is a secret that is shared with keepers")
        return key

    def _tls_files(self) -> Finding:
        try:
            context = tls_context(self._target.settings)
        except SettingsError as error:
            return failed(TLS_FILES, str(error), "Name a certificate chain and its private key, as PEM.")
        return ok(TLS_FILES, "the relay itself serves no TLS" if context is None else "certificate and key match")

    def _modes(self) -> Finding:
        settings = self._target.settings
        files = (settings.nats_password_file, settings.gate_key_file, settings.tls_key_file)
        wide = [str(path) for path in (*files, *self._target.people.values()) if path is not None and _is_open(path)]
        if wide:
            return warning(MODES, f"others may read or change {', '.join(wide)}", f"chmod o=,g-w {' '.join(wide)}")
        return ok(MODES, "others may not read the secrets")


def _is_open(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & _OPEN_TO_OTHERS)
    except OSError:  # reported by the check that reads it
        return False
