"""The records of unfinished jobs that this process has seen last, with the revisions for their next swaps."""

from collections import OrderedDict

MAX_KEPT_BYTES = 8 << 20
_ENDED = b'"state":"ended"'


class KeptRecords:
    """At most `MAX_KEPT_BYTES` of records as they are stored; those that were seen longest ago go first.

    What is kept may be outdated, although a watch brings each change: only a swap that succeeds proves that it is not.
    """

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, tuple[bytes, int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, job: str) -> tuple[bytes, int] | None:
        """The record of a job as it is stored, and its revision; it is kept no longer."""
        kept = self._kept.pop(job, None)
        if kept is not None:
            self._bytes -= len(kept[0])
        return kept

    def keep(self, job: str, value: bytes | None, revision: int) -> None:
        """A record was read or written here, or a watch shows it; nothing changes if a newer one is kept.

        Args:
            job: Its id.
            value: As it is stored; None if there is none any more.
            revision: Of the value.
        """
        before = self._kept.get(job)
        if before is not None and value is not None and before[1] > revision:
            return
        self.take(job)
        # An ended record is never swapped. A text in another record that looks like its state only costs a read.
        if value is None or _ENDED in value:
            return
        self._kept[job] = value, revision
        self._bytes += len(value)
        while self._bytes > self._max_bytes:
            self.take(next(iter(self._kept)))
