"""Answers producers why one of their jobs waits."""

from collections.abc import Callable, Sized

from edge_relay.identity.operators.operator import Operator
from edge_relay.submissions.status import SubmittedJobs
from edge_relay.why.answers import WhyAnswers
from edge_schemas.why.for_producers import WaitAnswer, told


class WaitCauses:
    """What producers may know of the causes.

    Args:
        jobs: Decides whose a job is.
        answers: As operators get them.
        unfinished: All unfinished jobs: an answer looks through them.
    """

    def __init__(self, jobs: SubmittedJobs, answers: WhyAnswers, unfinished: Sized) -> None:
        self._jobs = jobs
        self._answers = answers
        self._unfinished = unfinished

    async def of_job(self, producer: Operator, job: str, on_scanned: Callable[[int], None]) -> WaitAnswer:
        """Why a job waits.

        Raises:
            EdgeError: `not_found`: there is no such job in a queue of the producer. `rate_limited`.
            BrokerUnavailable: The record can't be read, or this replica has not read workers and jobs yet.
        """
        record = await self._jobs.require(producer, job)
        assert record.terms is not None  # noqa: S101  # `require` refuses jobs without terms
        on_scanned(len(self._unfinished))
        answer = await self._answers.of_record(record, producer.scope)
        return told(answer, record.id, record.queue, record.state, record.terms.kind.value)
