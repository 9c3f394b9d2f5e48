"""`POST /v1/enroll`: an enrolment token becomes a worker. Repeating the call changes nothing."""

from datetime import UTC, datetime

from aiohttp import web

from edge_relay import keys
from edge_relay.auth import bearer
from edge_relay.bodies import json_response, read_model
from edge_relay.settling import settled
from edge_schemas import routes
from edge_schemas.errors import EdgeError, ErrorCode
from edge_schemas.polls import SUPPORTED_PROTOCOLS
from edge_schemas.workers import Enrollment, EnrollRequest


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
    return json_response(await settled(_enroll(request.app, token, body)))


async def _enroll(app: web.Application, token: str, body: EnrollRequest) -> Enrollment:
    access, is_new = await app[keys.ACCESS].enroll(token, body, now=datetime.now(UTC))
    if is_new:
        await app[keys.AUDIT].record("worker-enrolled", worker=access.worker, site=access.site, host=access.hostname)
        await app[keys.CREDENTIALS].announce(access.secret_hash)
    return Enrollment(worker=access.worker, site=access.site, team=access.team, settings=access.settings)
