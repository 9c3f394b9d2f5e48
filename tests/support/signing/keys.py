"""A centre's signing keys, with the files that executor and keeper read."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from edge_bridge.signing.settings import SigningSettings
from edge_bridge.signing.trust import CentreTrust
from edge_schemas.signing.payload import JOB_CONTEXT, payload_of, with_signed
from edge_schemas.wire.jobs import Job, Signed
from edge_service.signing import key_files
from edge_service.signing.ed25519 import public_pem, sign

T = TypeVar("T")
UNSIGNED = CentreTrust(SigningSettings(), lambda: None)
"""The trust of a centre without keys."""


@dataclass(frozen=True)
class SigningCentre:
    """The keys of a centre, in the files that its parts read."""

    folder: Path

    @property
    def key_file(self) -> Path:
        """The private keys."""
        return self.folder / key_files.KEY_FILE

    @property
    def keys_file(self) -> Path:
        """The key sets."""
        return self.folder / key_files.KEYS_FILE

    @property
    def settings(self) -> SigningSettings:
        """Of executor and keeper."""
        return SigningSettings(self.key_file, self.keys_file)

    @property
    def sets(self) -> tuple[Signed, ...]:
        """The key sets so far."""
        return _aside(lambda: key_files.read_sets(self.keys_file))

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The public keys, the current one first."""
        return key_files.set_of(self.sets[-1]).public_keys

    @property
    def public_file(self) -> Path:
        """The public keys, as an owner gets them."""
        path = self.folder / "public.pem"
        pem = b"".join(map(public_pem, self.keys))
        _aside(lambda: path.write_bytes(pem))
        return path

    def sign(self, job: Job) -> Job:
        """As the executor does."""
        return with_signed(job, sign(payload_of(job), JOB_CONTEXT, _aside(lambda: key_files.read_keys(self.key_file))))

    def rotate(self) -> None:
        """The first half of a rotation."""
        _aside(lambda: key_files.rotate(self.key_file, self.keys_file, datetime.now(UTC)))

    def retire(self) -> None:
        """The second half."""
        _aside(lambda: key_files.retire(self.key_file, self.keys_file, datetime.now(UTC)))


def signing_centre(folder: Path) -> SigningCentre:
    """A centre with its first key."""
    folder.mkdir(parents=True, exist_ok=True)
    centre = SigningCentre(folder)
    _aside(lambda: key_files.create(centre.key_file, centre.keys_file, datetime.now(UTC)))
    return centre


def _aside(do: Callable[[], T]) -> T:
    """Call it in a thread, as commands and running parts do: in an event loop it would be a blocking call."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(do).result()
