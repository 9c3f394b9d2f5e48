"""The data folder of a standalone relay: its lock, its secrets and the names of its files."""

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from edge_broker.permissions import ROLES
from edge_schemas.wire.workers import SecretKind, new_secret
from edge_service.private_files import make_private_dir, read_or_create
from edge_service.signing import key_files


class StandaloneFailed(Exception):
    """The relay can't run, or can't continue; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """The files of one data folder.

    Attributes:
        path: The folder.
        passwords: Of the NATS users, by role.
    """

    path: Path
    passwords: dict[str, str] = field(repr=False)

    @property
    def secrets_dir(self) -> Path:
        """Holds the files with secrets."""
        return self.path / "secrets"

    @property
    def gate_secret(self) -> Path:
        """The file with the secret that relay and keepers share."""
        return self.secrets_dir / "gate.secret"

    @property
    def access_token(self) -> Path:
        """The file with an operator's access token."""
        return self.secrets_dir / "access.token"

    @property
    def airflow_token(self) -> Path:
        """The file with the access token of the page in Airflow's UI, under the name that the bridge expects."""
        return self.secrets_dir / "operators.token"


def open_data_dir(path: Path) -> DataDir:
    """The data folder with all its secrets, which are created if they are missing."""
    directory = make_private_dir(path / "secrets")
    read_or_create(directory / "gate.secret", secrets.token_urlsafe(32))
    for name in ("access.token", "operators.token"):
        read_or_create(directory / name, new_secret(SecretKind.ACCESS))
    key_files.create(directory / key_files.KEY_FILE, directory / key_files.KEYS_FILE, datetime.now(UTC))
    passwords = {role: read_or_create(directory / f"{role}.password", secrets.token_urlsafe(32)) for role in ROLES}
    return DataDir(path, passwords)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the data folder; the system releases the lock when the process ends in any way.

    Raises:
        StandaloneFailed: Another process has the lock.
    """
    with (path / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = f"another 'edge-relay standalone' uses {path}: stop it, or choose another --data-dir"
            raise StandaloneFailed(text) from None
        yield
