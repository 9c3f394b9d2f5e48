"""Checks that what is stored of a job is what the executor signed."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from edge_bridge.signing.changing_file import ChangingFile
from edge_bridge.signing.settings import SigningSettings
from edge_schemas.life.model import JobRecord
from edge_schemas.signing.key_sets import by_id
from edge_schemas.signing.payload import JOB_CONTEXT, PayloadUnreadable, contradiction, job_in, with_signed
from edge_schemas.wire.jobs import Job, Signed
from edge_service.signing.ed25519 import KeyUnusable, is_signed_by
from edge_service.signing.key_files import read_sets, set_of

MAX_CHECKED = 4096
"""How many checked jobs are remembered: a task makes many calls."""


class JobNotSigned(Exception):
    """A job of Airflow is not signed by a key of the centre, or its record was altered. The text says which."""


class CentreTrust:
    """The trust of executor and keeper: they read the key sets from their own disk.

    Args:
        settings: Name the key sets, and whether jobs must be signed.
        on_refused: Called for each record that is refused; counts them.
    """

    def __init__(self, settings: SigningSettings, on_refused: Callable[[], None]) -> None:
        self._on_refused = on_refused
        self._is_required = settings.is_required
        self._file = None if settings.keys_file is None else ChangingFile(settings.keys_file, read_sets)
        self._checked: OrderedDict[tuple[Signed, tuple[bytes, ...]], Job] = OrderedDict()

    async def announced(self) -> Sequence[Signed]:
        """The key sets for workers: none while unsigned jobs are accepted, else workers would refuse those.

        Raises:
            KeyUnusable: They can't be read now.
        """
        return await self._file.get() if self._file is not None and self._is_required else ()

    async def job_of(self, record: JobRecord) -> Job | None:
        """The job of a record, as it was signed if jobs are signed; None if the record has none.

        Raises:
            JobNotSigned: It must be signed and is not, or was altered.
            KeyUnusable: The key sets can't be read now.
        """
        if self._file is None or not self._is_required:
            return record.job
        keys = set_of((await self._file.get())[-1]).public_keys
        try:
            return self._checked_job(record, keys)
        except JobNotSigned:
            self._on_refused()
            raise

    def _checked_job(self, record: JobRecord, keys: tuple[bytes, ...]) -> Job:
        if record.job is None or record.job.signed is None:
            raise JobNotSigned("it is not signed by the executor")
        job = self._check(record.job.signed, keys)
        if (what := contradiction(record, job)) is not None:
            raise JobNotSigned(what)
        return job

    def _check(self, signed: Signed, keys: tuple[bytes, ...]) -> Job:
        known = self._checked.get((signed, keys))
        if known is not None:
            self._checked.move_to_end((signed, keys))
            return known
        if not is_signed_by(signed, JOB_CONTEXT, by_id(keys)):
            raise JobNotSigned("no key of the centre has signed it, or it was altered")
        try:
            job = with_signed(job_in(signed), signed)
        except PayloadUnreadable as error:
            raise JobNotSigned(str(error)) from None
        self._checked[signed, keys] = job
        if len(self._checked) > MAX_CHECKED:
            self._checked.popitem(last=False)
        return job


def unusable(error: KeyUnusable) -> str:
    """For people: the key sets can't be used."""
    return f"[edge_relay] signing_keys_file: {error}"
