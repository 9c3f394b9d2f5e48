"""What a handler of payloads receives, and how it says that a job did not succeed."""

from collections.abc import Callable, Mapping

from typing_extensions import override

from edge_schemas.wire.job_calls import MAX_RELEASE_DELAY_S
from edge_schemas.wire.jobs import Job, PayloadWork


class Retry(Exception):
    """Raised by a handler: the job waits again, until its attempts are used up; then it is parked.

    Args:
        delay_s: For how long the job is not granted again; at most twelve hours.
        reason: For operators and for the producer.
    """

    def __init__(self, delay_s: float = 0.0, reason: str = "the consumer retries it later") -> None:
        if not 0 <= delay_s <= MAX_RELEASE_DELAY_S:
            msg = f"delay_s must be from 0 to {MAX_RELEASE_DELAY_S:g}"
            raise ValueError(msg)
        super().__init__(delay_s, reason)
        self.delay_s = delay_s
        self.reason = reason

    @override
    def __str__(self) -> str:
        return self.reason


class Reject(Exception):
    """Raised by a handler: the job has failed for good, and no repetition would help.

    Args:
        reason: For the producer.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Stopped(Exception):
    """The handler is to end: `PayloadJob.check` raises it. What the handler has not done yet is not to be done."""


class PayloadJob:
    """A job that this consumer holds while its handler runs.

    Attributes:
        id: The same for all attempts: use it to notice work that an earlier attempt has done.
        attempt: 1 for the first. Above that, an earlier attempt has ended without an outcome, perhaps after its work.
        max_attempts: After so many attempts the job is parked.
        body: The payload.
        content_type: As the producer has named it.
        tolerance_s: For how long the consumer may be out of contact. Nearly at its end the handler is stopped, because
            another consumer may get the job soon afterwards.
    """

    def __init__(self, job: Job, *, log: Callable[[str], None], stop_reason: Callable[[], str | None]) -> None:
        if not isinstance(job.work, PayloadWork) or job.terms is None:
            msg = f"job {job.id} is no payload"
            raise TypeError(msg)
        self.id: str = job.id
        self.queue: str = job.queue
        self.name = job.terms.name
        self.attempt = job.attempt
        self.max_attempts = job.terms.max_attempts
        self.group = job.terms.group
        self.labels: Mapping[str, str] = job.terms.labels
        self.body = job.work.payload.body
        self.content_type = job.work.payload.content_type
        self.tolerance_s = job.offline.tolerance_s
        self._log = log
        self._stop_reason = stop_reason

    @property
    def text(self) -> str:
        """The payload, decoded from UTF-8.

        Raises:
            UnicodeDecodeError: The payload is something else.
        """
        return self.body.decode()

    def log(self, line: str) -> None:
        """Appends a line to the job's log, which its producer can read. Never waits, and may be called in any thread.

        Lines that the relay does not take in time are dropped, and the log shows how many.
        """
        self._log(line)

    @property
    def stop_reason(self) -> str | None:
        """Why the handler is to end; None while it may continue.

        The producer has cancelled the job, the consumer shuts down, or it has been out of contact for nearly as long as
        the queue tolerates. An asynchronous handler is cancelled as well; a plain function has to check this.
        """
        return self._stop_reason()

    def check(self) -> None:
        """Returns while the handler may continue.

        Raises:
            Stopped: See `stop_reason`.
        """
        if (reason := self.stop_reason) is not None:
            raise Stopped(reason)
