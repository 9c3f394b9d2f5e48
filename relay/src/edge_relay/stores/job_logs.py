"""Appends to a job's log on behalf of its holder."""

from edge_relay.shielded import run_to_completion
from edge_relay.stores.holders import Holders
from edge_relay.stores.log_store import LogStore, NewTenure


class JobLogs:
    """The logs of jobs, each written by the job's holder only."""

    def __init__(self, holders: Holders, logs: LogStore) -> None:
        self._holders = holders
        self._logs = logs

    async def check_holder(self, job: str, worker: str, offset: int) -> None:
        """Refuse a worker that does not hold the job and did not hold it at its end.

        At offset 0 the record is read again: the file may belong to a new tenure of the same worker, whose bytes would
        otherwise be appended to the file of the former one.

        Raises:
            EdgeError: See `Holders.require`.
        """
        await self._holders.require(job, worker, fresh=offset == 0)

    async def append(self, job: str, worker: str, offset: int, data: bytes) -> int:
        """Append bytes of the holder's log file; returns the offset up to which the file is durable.

        The append is completed although the caller is cancelled.

        Raises:
            EdgeError: See `Holders.require` and `LogStore.append`.
        """
        return await run_to_completion(self._append(job, worker, offset, data))

    async def _append(self, job: str, worker: str, offset: int, data: bytes) -> int:
        holder = await self._holders.require(job, worker)
        try:
            return await self._logs.append(holder.log_subject, holder.id, offset, data)
        except NewTenure:
            holder = await self._holders.require(job, worker, fresh=True)
            return await self._logs.append(holder.log_subject, holder.id, offset, data, begin=True)
