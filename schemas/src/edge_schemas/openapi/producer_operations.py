"""Operations of producers: jobs that are not Airflow's."""

from edge_schemas.openapi.operation import ACCESS, BODY, CALL, Operation
from edge_schemas.producers import submissions
from edge_schemas.producers.queries import JobsQuery, LogQuery, WaitQuery
from edge_schemas.why.for_producers import WaitAnswer
from edge_schemas.wire import routes
from edge_schemas.wire.errors import ErrorCode

_E = ErrorCode
_PRODUCER = (*CALL, _E.CREDENTIAL_REVOKED, _E.FORBIDDEN)
_OF_A_JOB = (*_PRODUCER, _E.NOT_FOUND)

PRODUCER_OPERATIONS = (
    Operation(
        "post",
        routes.QUEUE_JOBS,
        "submitJob",
        "Submit a job; 200 if a job with this key was submitted before",
        "producers",
        {201: submissions.Submitted, 200: submissions.Submitted},
        ACCESS,
        submissions.Submission,
        (*_PRODUCER, *BODY, _E.KEY_REUSED),
    ),
    Operation(
        "post",
        routes.QUEUE_JOB_BATCHES,
        "submitJobs",
        "Submit up to 100 jobs; each is accepted or rejected for itself",
        "producers",
        {200: submissions.BatchResult},
        ACCESS,
        submissions.SubmissionBatch,
        (*_PRODUCER, *BODY),
    ),
    Operation(
        "get",
        routes.QUEUE_JOBS,
        "listSubmittedJobs",
        "The submitted jobs of a queue, by state and label",
        "producers",
        {200: submissions.JobStatusPage},
        ACCESS,
        errors=_PRODUCER,
        query=JobsQuery,
    ),
    Operation(
        "get",
        routes.QUEUE,
        "showSubmittedQueue",
        "How many submitted jobs are in a queue",
        "producers",
        {200: submissions.QueueStatus},
        ACCESS,
        errors=_OF_A_JOB,
    ),
    Operation(
        "get",
        routes.JOB,
        "showSubmittedJob",
        "The status of a job, and its result; with `wait`, answered at its end",
        "producers",
        {200: submissions.JobStatus},
        ACCESS,
        errors=_OF_A_JOB,
        query=WaitQuery,
    ),
    Operation(
        "get",
        routes.JOB_LOG,
        "readJobLog",
        "The bytes of a job's log from an offset; with `wait`, answered when there are some",
        "producers",
        {200: None},
        ACCESS,
        errors=_OF_A_JOB,
        query=LogQuery,
        media_type="application/octet-stream",
    ),
    Operation(
        "get",
        routes.JOB_WHY,
        "whySubmittedJob",
        "Why a job waits, without what other producers and operators do",
        "producers",
        {200: WaitAnswer},
        ACCESS,
        errors=_OF_A_JOB,
    ),
    Operation(
        "post",
        routes.JOB_CANCEL,
        "cancelJob",
        "Cancel a job: it ends if it waits, and is stopped if it runs",
        "producers",
        {200: submissions.JobStatus},
        ACCESS,
        submissions.Cancellation,
        (*_OF_A_JOB, *BODY),
    ),
)
