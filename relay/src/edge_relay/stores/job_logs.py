"""Appends to a job's log on behalf of its holder."""

from functools import partial

from edge_broker.connection.broker import Broker
from edge_broker.connection.errors import StreamFull
from edge_broker.subjects import log_notice
from edge_relay.limits.log_rates import LogOwner, LogRates
from edge_relay.shielded import run_to_completion
from edge_relay.stores.holders import Holders
from edge_relay.stores.log_space import LogSpace
from edge_relay.stores.log_store import LogStore, NewTenure


class JobLogs:
    """The logs of jobs, each written by the job's holder only."""

    def __init__(self, broker: Broker, holders: Holders, logs: LogStore, rates: LogRates, space: LogSpace) -> None:
        self._broker = broker
        self._holders = holders
        self._logs = logs
        self._rates = rates
        self._space = space

    async def check(self, job: str, worker: str, offset: int) -> None:
        """Refuse a worker that does not hold the job and did not hold it at its end, or has used up its budget.

        At offset 0 the record is read again: the file may belong to a new tenure of the same worker, whose bytes would
        otherwise be appended to the file of the former one.

        Raises:
            EdgeError: See `Holders.require`, `LogRates.check` and `LogSpace.require`.
        """
        holder = await self._holders.require(job, worker, fresh=offset == 0)
        self._rates.check(LogOwner(job, worker, holder.queue))
        self._space.require(holder.queue)

    async def append(self, job: str, worker: str, offset: int, data: bytes) -> int:
        """Append bytes of the holder's log file; returns the offset up to which the file is durable.

        The append is completed although the caller is cancelled.

        Raises:
            EdgeError: See `Holders.require` and `LogStore.append`; `rate_limited`: the stream is full.
        """
        return await run_to_completion(self._append(job, worker, offset, data))

    async def _append(self, job: str, worker: str, offset: int, data: bytes) -> int:
        holder = await self._holders.require(job, worker)
        owner = LogOwner(job, worker, holder.queue)
        self._rates.charge(owner, len(data))
        self._space.charge(holder.queue, len(data))
        append = partial(self._logs.append, offset=offset, data=data, on_read=partial(self._rates.charge_read, owner))
        try:
            try:
                end = await append(holder)
            except NewTenure:
                end = await append(await self._holders.require(job, worker, fresh=True), begin=True)
        except StreamFull:
            raise self._space.refuse() from None
        if holder.is_submitted and data:
            # Its producer may follow the log, at any replica.
            await self._broker.publish(log_notice(job))
        return end
