"""Reads the records of jobs that the watch of the bucket has not shown."""

from edge_bridge.airflow.dispatch_table import DispatchTable, Entry
from edge_bridge.executor.reports import Reports
from edge_broker.records import RecordStore, RecordUnreadable


class RecordReader:
    """Reads records from the stream leader and hands them to the reports."""

    def __init__(self, dispatches: DispatchTable, reports: Reports) -> None:
        self._dispatches = dispatches
        self._reports = reports

    async def read_unseen(self, store: RecordStore, job: str) -> None:
        """Read the record of a job whose entry was added after the watch had shown the record, or whose record is gone.

        Raises:
            BrokerUnavailable: NATS could not be asked.
        """
        entry = self._dispatches.get(job)
        if entry is not None and entry.state is None:
            await self.read(store, entry)

    async def read(self, store: RecordStore, entry: Entry) -> None:
        """Read the record of an entry; the watch may be behind."""
        try:
            record = await store.get(entry.job)
        except RecordUnreadable as error:
            self._reports.record_unreadable(entry, error)
            return
        if record is not None:
            self._reports.update(entry, record)
