"""`standalone.json`: where a running standalone relay listens and keeps its files, for other programs."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_relay.settings import SettingsError
from edge_service.private_files import write_file

FILE_NAME = "standalone.json"


class StandaloneInfo(BaseModel):
    """Addresses and files. It holds no secrets, only the names of the files that hold them.

    Attributes:
        relay_url: The address for workers.
        workers_url: The address of the listener for workers; None from a relay of an older version.
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


def write_info(data_dir: Path, info: StandaloneInfo) -> None:
    """Publish that the relay is up; readers see a complete file or none."""
    write_file(data_dir / FILE_NAME, f"{info.model_dump_json(indent=2)}\n".encode())


def remove_info(data_dir: Path) -> None:
    """Publish that the relay is not up."""
    (data_dir / FILE_NAME).unlink(missing_ok=True)


def read_info(data_dir: Path) -> StandaloneInfo:
    """The info of the relay with this data folder.

    Raises:
        SettingsError: No relay is up with this data folder.
    """
    path = data_dir / FILE_NAME
    try:
        return StandaloneInfo.model_validate_json(path.read_bytes())
    except OSError:
        text = f"no standalone relay is up with the data folder {data_dir}: there is no {FILE_NAME}"
        raise SettingsError(text) from None
    except ValidationError:
        raise SettingsError(f"{path} was not written by this version of 'edge-relay standalone'") from None
