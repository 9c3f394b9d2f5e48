"""The pause of the machine's owner: kept on disk, applied at once and at each start, reported to the centre."""

from pathlib import Path

from pydantic import ValidationError

from edge_worker.control.protocol import PAUSED_HERE, OwnPause
from edge_worker.files import write_atomically
from edge_worker.jobs.registry import JobRegistry
from edge_worker.log import EventLog

FILE = "owner.json"
_CAUSE = "owner"
_DAMAGED = f"{FILE} in the state folder cannot be read; 'edge-worker resume' removes it"

log = EventLog("edge_worker.control.own_pause")


class OwnPauseFile:
    """The file in the state folder."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE

    def read(self) -> OwnPause | None:
        """The pause; None if there is none.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is damaged.
        """
        try:
            return OwnPause.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return None

    def write(self, pause: OwnPause) -> None:
        """Keeps the pause.

        Raises:
            OSError: The disk is full or read-only; nothing has changed.
        """
        write_atomically(self.path, pause.model_dump_json().encode())

    def remove(self) -> None:
        """Ends the pause.

        Raises:
            OSError: It stays.
        """
        self.path.unlink(missing_ok=True)


class OwnIntake:
    """Closes and opens the intake as the owner wants it.

    Attributes:
        pause: What is applied now.
    """

    def __init__(self, file: OwnPauseFile, table: JobRegistry) -> None:
        self._file = file
        self._table = table
        self.pause: OwnPause | None = None

    def restore(self) -> None:
        """Applies what the file says. A damaged file keeps the intake closed: the owner may have wanted that."""
        try:
            pause = self._file.read()
        except (OSError, ValidationError) as error:
            # Without the traceback: it is known what is wrong.
            log.warning("own_pause_not_readable", path=str(self._file.path), error=type(error).__name__)
            self._table.close_intake(_CAUSE, _DAMAGED)
            return
        if pause is not None:
            self._close(pause)

    def begin(self, pause: OwnPause) -> None:
        """Keeps the pause and applies it. A repeat replaces the reason.

        Raises:
            OSError: It cannot be kept; nothing has changed.
        """
        self._file.write(pause)
        self._table.open_intake(_CAUSE)
        self._close(pause)

    def end(self, by: str) -> None:
        """Removes the pause.

        Raises:
            OSError: It stays.
        """
        self._file.remove()
        self.pause = None
        self._table.open_intake(_CAUSE)
        log.info("own_pause_ended", by=by)

    def _close(self, pause: OwnPause) -> None:
        self.pause = pause
        log.info("own_pause_applies", reason=pause.reason, by=pause.by, since=pause.since.isoformat())
        self._table.close_intake(_CAUSE, PAUSED_HERE + (pause.reason or "no reason was given"))
