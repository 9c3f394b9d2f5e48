"""What workers may know of the centre's Airflow: its version, its Python, and the lock file of their runtimes."""

import asyncio
import platform
from pathlib import Path

from edge_bridge.signing.trust import CentreTrust, unusable
from edge_schemas.gate.centre import CentreFacts
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_service.signing.ed25519 import KeyUnusable

MAX_LOCK_BYTES = 4 << 20
"""A lock file with the hashes of all optional dependencies of Airflow has less than a megabyte."""


class LockUnreadable(Exception):
    """The file of `[edge_relay] runtime_lock` can't be read; the text contains the reason."""


def read_lock(path: Path) -> str:
    """The content of the lock file.

    Raises:
        LockUnreadable: It is missing, empty, too large or no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LOCK_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise LockUnreadable(f"{path} can't be read: {error}") from None
    if len(data) > MAX_LOCK_BYTES:
        raise LockUnreadable(f"{path} has more than {MAX_LOCK_BYTES} bytes")
    if not text.strip():
        raise LockUnreadable(f"{path} is empty")
    return text


class CentreView:
    """Collects `CentreFacts`.

    Args:
        lock: File with the pinned requirements of runtimes; read at each call, so that it can be replaced at any time.
        trust: Has the key sets for workers.
    """

    def __init__(self, lock: Path | None, trust: CentreTrust) -> None:
        self._lock = lock
        self._trust = trust

    async def facts(self) -> CentreFacts:
        """The facts at this moment. Reads files, in threads.

        Raises:
            EdgeError: `gate_unavailable`: a lock file is set and can't be read. Without it workers would install
                versions that the operator has not chosen. Or the key sets can't be read.
        """
        from airflow import __version__

        try:
            lock = None if self._lock is None else await asyncio.to_thread(read_lock, self._lock)
            sets = tuple(await self._trust.announced())
        except LockUnreadable as error:
            raise EdgeError(ErrorCode.GATE_UNAVAILABLE, f"[edge_relay] runtime_lock: {error}") from None
        except KeyUnusable as error:
            raise EdgeError(ErrorCode.GATE_UNAVAILABLE, unusable(error)) from None
        return CentreFacts(
            airflow_version=__version__, python_version=platform.python_version(), runtime_lock=lock, signing_keys=sets
        )
