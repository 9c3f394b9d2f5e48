"""Every HTTP path once: the relay routes with them, the worker and the command line call with them."""

ENROLL = "/v1/enroll"
POLL = "/v1/poll"
JOB_START = "/v1/jobs/{job}/start"
JOB_FINISH = "/v1/jobs/{job}/finish"
JOB_RELEASE = "/v1/jobs/{job}/release"
JOB_LOG = "/v1/jobs/{job}/log"
JOB_EXECUTION = "/v1/jobs/{job}/execution/{path}"

ADMIN_ENROLL_TOKENS = "/v1/admin/enroll-tokens"
ADMIN_WORKERS = "/v1/admin/workers"
ADMIN_WORKER_REVOKE = "/v1/admin/workers/{worker}/revoke"
ADMIN_JOB_REDRIVE = "/v1/admin/jobs/{job}/redrive"

HEALTHZ = "/healthz"
READYZ = "/readyz"
METRICS = "/metrics"
OPENAPI = "/openapi.json"

GATE_EXECUTION = "/gate/v1/jobs/{job}/execution/{path}"
"""On the keeper, for the relay only."""

REQUEST_ID_HEADER = "X-Request-Id"
"""Chosen by whoever makes the call; the same for all repeats of it. Echoed in every answer."""
FORWARDED_HEADERS = ("content-type", "airflow-api-version", "correlation-id", "traceparent")
"""Of a request to the Execution API; everything else, `Authorization` above all, is left behind."""
PROBLEM_TYPE = "application/problem+json"
ORIGIN_HEADER = "Edge-Answer"
EXECUTION_ORIGIN = "execution-api"
"""Marks an answer of Airflow's Execution API, or of the gate in its name; without it relay or proxy answered."""
WORKER_HEADER = "Edge-Worker"
"""From relay to gate: the worker whose credential was checked."""
