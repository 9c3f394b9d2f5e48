"""`standalone.json`: what other programs on the machine want to know of a standalone relay that is up."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_relay.settings import SettingsError
from edge_relay.standalone.private_files import write_file

FILE_NAME = "standalone.json"


class Facts(BaseModel):
    """Where things are. It holds no secret, only the names of the files that do.

    Attributes:
        relay_url: By which workers reach it.
        workers_url: Where it listens for them; None from a relay of an older version.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    relay_url: str
    workers_url: str | None = None
    gate_urls: tuple[str, ...] = ()
    operator_url: str
    ca_file: Path
    nats_url: str
    secrets_dir: Path
    gate_secret_file: Path
    access_token_file: Path
    pid: int


def write_facts(data_dir: Path, facts: Facts) -> None:
    """Say that the relay is up; readers see the whole file or none."""
    write_file(data_dir / FILE_NAME, f"{facts.model_dump_json(indent=2)}\n".encode())


def remove_facts(data_dir: Path) -> None:
    """Say that it is not."""
    (data_dir / FILE_NAME).unlink(missing_ok=True)


def read_facts(data_dir: Path) -> Facts:
    """What the relay with this data folder said.

    Raises:
        SettingsError: There is none that is up.
    """
    path = data_dir / FILE_NAME
    try:
        return Facts.model_validate_json(path.read_bytes())
    except OSError:
        text = f"no standalone relay is up with the data folder {data_dir}: there is no {FILE_NAME}"
        raise SettingsError(text) from None
    except ValidationError:
        raise SettingsError(f"{path} was not written by this version of 'edge-relay standalone'") from None
