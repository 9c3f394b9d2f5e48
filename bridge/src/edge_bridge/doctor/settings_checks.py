"""Checks the `[edge_relay]` section and its secrets."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_bridge.executor.settings import executor_settings
from edge_bridge.keeper.bundles.settings import bundle_settings
from edge_bridge.keeper.settings import MIN_SECRET_CHARS
from edge_bridge.settings import SECTION, Conf, SettingsError, secret, text
from edge_bridge.signing.settings import signing_settings
from edge_bridge.signing.signer import current_keys
from edge_broker.doctor.server_checks import ca_file_finding
from edge_broker.permissions import EXECUTOR, KEEPER, READER
from edge_schemas.signing.key_sets import key_id
from edge_service.findings import Check, Finding, failed, known, ok, warning
from edge_service.signing.ed25519 import KeyUnusable
from edge_service.signing.key_files import KEYS_FILE, read_sets, set_of

VALUES, GATE_SECRET, MODES = "settings.values", "settings.gate_secret", "settings.modes"
SIGNING = "settings.signing"
_OPEN_TO_OTHERS = stat.S_IWGRP | stat.S_IRWXO
"""The group may read: container platforms mount secrets this way."""
_PLACES = {KEEPER: "the keeper", READER: "the api-server"}


@dataclass(frozen=True, slots=True)
class Broker:
    """How this machine connects to NATS.

    Attributes:
        passwords: By role; the executor's is empty if there is none.
    """

    urls: tuple[str, ...]
    ca_file: Path | None
    passwords: dict[str, str]


class SettingsDoctor:
    """Reads all settings at once: the other checks are made from them."""

    def __init__(self, conf: Conf) -> None:
        self._conf = conf
        self._found: list[Finding] = []
        self._read_values()
        self.broker = self._read_broker()
        self.gate_key = self._read_gate_key()
        self._found.append(self._modes())
        self._found.append(signing_finding(conf))

    def checks(self) -> Iterator[Check]:
        """The checks of the settings and their secrets."""
        yield from map(known, self._found)

    def _read_values(self) -> None:
        try:
            executor_settings(self._conf)
            bundle_settings(self._conf)
        except SettingsError as error:
            if not _has_own_finding(error):
                self._found.append(failed(VALUES, str(error), f"Correct it in section [{SECTION}] of airflow.cfg."))
                return
        self._found.append(ok(VALUES, f"the settings in [{SECTION}] can be used"))

    def _read_broker(self) -> Broker:
        urls = tuple(url.strip() for url in text(self._conf, "nats_urls").split(",") if url.strip())
        named = text(self._conf, "nats_ca_file")
        ca_file = Path(named) if named else None
        self._found.append(ca_file_finding(f"[{SECTION}] nats_ca_file", ca_file))
        passwords = {EXECUTOR: ""}
        for role in (EXECUTOR, KEEPER, READER):
            check = password_of(role)
            try:
                passwords[role] = secret(self._conf, f"{role}_password", f"{role}.password")
            except SettingsError as error:
                self._found.append(_no_password(check, role, str(error)))
            else:
                self._found.append(ok(check, f"there is a password of the NATS user {role}"))
        return Broker(urls, ca_file, passwords)

    def _read_gate_key(self) -> bytes | None:
        try:
            key = secret(self._conf, "gate_secret", "gate.secret")
        except SettingsError as error:
            advice = "Fine where no keeper runs; run the doctor on the keeper's machine too. " + str(error)
            self._found.append(warning(GATE_SECRET, "the secret of gate and relay is not on this machine", advice))
            return None
        if len(key) < MIN_SECRET_CHARS:
            advice = f"Use a random secret of {MIN_SECRET_CHARS} characters or more, the same for keepers and relays."
            self._found.append(failed(GATE_SECRET, "the secret of gate and relay is too short", advice))
            return None
        self._found.append(ok(GATE_SECRET, "there is a secret to share with relays"))
        return key.encode()

    def _modes(self) -> Finding:
        folder = text(self._conf, "secrets_dir")
        files = sorted(Path(folder).iterdir()) if folder and Path(folder).is_dir() else []
        secrets = [path for path in files if path.is_file() and path.name != KEYS_FILE]
        wide = [str(path) for path in secrets if path.stat().st_mode & _OPEN_TO_OTHERS]
        if wide:
            return warning(MODES, f"others may read or change {', '.join(wide)}", f"chmod o=,g-w {' '.join(wide)}")
        return ok(MODES, "others may not read the secrets")


def signing_finding(conf: Conf) -> Finding:
    """Whether jobs are signed here, with keys that workers are told about."""
    how = "See docs/howto/signed-work.md."
    try:
        settings = signing_settings(conf)
        keys = current_keys(settings) if settings.signs else ()
        announced = () if settings.keys_file is None else set_of(read_sets(settings.keys_file)[-1]).public_keys
    except (SettingsError, KeyUnusable) as error:
        return failed(SIGNING, f"the signing keys can't be used: {error}", how)
    if not announced:
        advice = f"Run 'airflow edge-relay signing-keys generate', then restart scheduler and keeper. {how}"
        return warning(SIGNING, "jobs are not signed: who takes over a relay can have any task run at the edge", advice)
    if settings.key_file is not None and settings.key_file.stat().st_mode & _OPEN_TO_OTHERS:
        return failed(SIGNING, f"others may read or change {settings.key_file}", f"chmod o=,g-w {settings.key_file}")
    unknown = [key.public_key for key in keys if key.public_key not in announced]
    if unknown:
        detail = f"no key set names SHA256:{key_id(unknown[0])}, which signs: workers do not know it"
        return failed(SIGNING, detail, "Run 'airflow edge-relay signing-keys announce' here.")
    who = f"signed by SHA256:{key_id(keys[0].public_key)}" if keys else "checked here and not signed"
    if not settings.is_required:
        advice = f"Remove [{SECTION}] signed_jobs once no older job is waiting or running."
        return warning(SIGNING, f"jobs are {who}, but unsigned jobs are accepted and workers get no keys", advice)
    return ok(SIGNING, f"jobs are {who}")


def password_of(role: str) -> str:
    """The id of the check of a role's password."""
    return f"settings.{role}_password"


def _no_password(check: str, role: str, detail: str) -> Finding:
    if role == EXECUTOR:
        return failed(
            check, detail, "The scheduler needs it: use the password that nats-server has for the user executor."
        )
    advice = f"Fine where {_PLACES[role]} does not run; run the doctor where it does too. {detail}"
    return warning(check, f"the password of the NATS user {role} is not on this machine", advice)


def _has_own_finding(error: SettingsError) -> bool:
    """The password and the CA file have findings of their own."""
    return any(name in str(error) for name in ("executor_password", "executor.password", "nats_ca_file"))
