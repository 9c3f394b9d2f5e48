"""`POST /v1/enroll`: an enrolment token becomes a worker. Repeating the call changes nothing."""

from datetime import UTC, datetime

import structlog
from aiohttp import web

from edge_relay.http import keys
from edge_relay.http.bodies import json_response, read_model
from edge_relay.http.callers import bearer
from edge_relay.http.shielded import run_to_completion
from edge_schemas.life.versions import runtime_mismatch
from edge_schemas.wire import routes
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.polls import SUPPORTED_PROTOCOLS
from edge_schemas.wire.workers import Enrollment, EnrollRequest

log = structlog.get_logger(__name__)


def add_routes(app: web.Application) -> None:
    """For the workers' listener."""
    app.router.add_post(routes.ENROLL, enroll)


async def enroll(request: web.Request) -> web.Response:
    """Trade a use of the token for a worker's name, queues, site and team."""
    token = bearer(request)
    body = await read_model(request, EnrollRequest)
    if body.protocol not in SUPPORTED_PROTOCOLS:
        served = ", ".join(map(str, SUPPORTED_PROTOCOLS))
        raise EdgeError(ErrorCode.PROTOCOL_UNSUPPORTED, f"this relay serves protocol {served}")
    enrollment = await run_to_completion(_enroll(request.app, token, body))
    # After the token was taken: strangers make no keeper work.
    centre = await request.app[keys.CENTRE].facts()
    if centre is None:
        return json_response(enrollment)
    _warn(enrollment.worker, body.airflow, centre.airflow_version)
    return json_response(enrollment.model_copy(update={"airflow": centre.airflow_version}))


def _warn(worker: str, runtime: str | None, centre: str) -> None:
    """A runtime that is too new is no reason to refuse: the enrolled worker can install another one."""
    if (fault := runtime_mismatch(runtime, centre)) is not None:
        log.warning("runtime_too_new", worker=worker, runtime=runtime, centre=centre, means=fault)


async def _enroll(app: web.Application, token: str, body: EnrollRequest) -> Enrollment:
    enrollments = app[keys.METRICS].enrollments
    try:
        access, is_new = await app[keys.ACCESS].enroll(token, body, now=datetime.now(UTC))
    except EdgeError as error:
        if error.code is ErrorCode.ENROLLMENT_REFUSED:
            enrollments.labels("refused").inc()
        raise
    enrollments.labels("new" if is_new else "repeated").inc()
    if is_new:
        facts = {"airflow": body.airflow} if body.airflow else {}
        await app[keys.AUDIT].record(
            "worker-enrolled", worker=access.worker, site=access.site, host=access.hostname, **facts
        )
        await app[keys.CREDENTIALS].announce(access.secret_hash)
    return Enrollment(worker=access.worker, site=access.site, team=access.team, settings=access.settings)
