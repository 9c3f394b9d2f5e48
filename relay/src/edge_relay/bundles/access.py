"""Who may fetch a bundle: the worker that holds a job of exactly this version."""

from collections.abc import Collection

from edge_broker.records import RecordStore
from edge_relay.identity.principals import Principal
from edge_relay.jobs.takeover import check_uncontested
from edge_relay.stores.worker_store import WorkerStore
from edge_schemas.life.holder_calls import check_holder
from edge_schemas.life.model import JobRecord
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.jobs import BundleRef


class BundleAccess:
    """Checks the callers by the records of their jobs.

    Args:
        records: Of the jobs.
        workers: Of the agents that use a credential.
    """

    def __init__(self, records: RecordStore, workers: WorkerStore) -> None:
        self._records = records
        self._workers = workers

    async def check(self, principal: Principal, job: str, bundle: str, digest: str) -> None:
        """Refuse all workers but the holder of a job that runs this version.

        Raises:
            EdgeError: See `check_bundle` and `check_uncontested`.
            BrokerUnavailable: The record can't be read.
        """
        record = check_bundle(await self._records.get(job), principal.worker, bundle, digest)
        await check_uncontested(self._workers, record, principal)


def check_bundle(record: JobRecord | None, worker: str, bundle: str, digest: str) -> JobRecord:
    """The record, if this worker holds the job and the job runs this version of this bundle.

    Raises:
        EdgeError: As `check_holder`, or `forbidden`.
    """
    record = check_holder(record, worker)
    runs: BundleRef | None = None if record.job is None else record.job.bundle
    if runs is None or (runs.name, runs.digest) != (bundle, digest):
        raise EdgeError(ErrorCode.FORBIDDEN, "the job does not run this version of this bundle")
    return record


def check_pieces(wanted: Collection[str], known: Collection[str]) -> None:
    """Refuse pieces that the version does not have.

    Raises:
        EdgeError: `forbidden`.
    """
    foreign = [piece for piece in wanted if piece not in known]
    if foreign:
        text = f"{len(foreign)} of the pieces are not in this version of the bundle, the first is {foreign[0]}"
        raise EdgeError(ErrorCode.FORBIDDEN, text)


def check_offset(offset: int, first_frame: bytes) -> None:
    """Refuse an offset behind the end of the first frame.

    Raises:
        EdgeError: `invalid_request`.
    """
    if offset > len(first_frame):
        text = f"the offset is behind the end of the first piece, whose frame has {len(first_frame)} bytes"
        raise EdgeError(ErrorCode.INVALID_REQUEST, text)


def missing_piece(piece: str) -> EdgeError:
    """The refusal of a piece that was removed: its version is no longer kept."""
    return EdgeError(ErrorCode.NOT_FOUND, f"piece {piece} is no longer stored")
