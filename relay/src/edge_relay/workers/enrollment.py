"""Enrolment of a worker: a use of an enrolment token becomes a credential. Repeating a call changes nothing."""

from datetime import UTC, datetime

import structlog

from edge_broker.audit import Audit
from edge_relay.gate.centre import Centre
from edge_relay.identity.credentials import Credentials
from edge_relay.identity.enrollment import EnrollmentStore, check_form, token_key, unknown_token
from edge_relay.identity.lookups import Lookups
from edge_relay.metrics.replica import Metrics
from edge_relay.shielded import run_to_completion
from edge_schemas.admin.audit import Actor, ActorKind, TargetKind
from edge_schemas.life.versions import runtime_mismatch
from edge_schemas.wire.errors import EdgeError, ErrorCode
from edge_schemas.wire.polls import SUPPORTED_PROTOCOLS
from edge_schemas.wire.workers import Enrollment, EnrollRequest

log = structlog.get_logger(__name__)


class WorkerEnrollment:
    """Enrols workers and reports new ones."""

    def __init__(
        self,
        store: EnrollmentStore,
        lookups: Lookups,
        credentials: Credentials,
        centre: Centre,
        *,
        audit: Audit,
        metrics: Metrics,
    ) -> None:
        self._lookups = lookups
        self._store = store
        self._credentials = credentials
        self._centre = centre
        self._audit = audit
        self._metrics = metrics

    async def check_token(self, token: str, address: str) -> None:
        """Refuse a token that does not exist; whether it has uses left is decided by `enroll`.

        Args:
            token: From the call.
            address: Where the call came from; limits look-ups of unknown tokens.

        Raises:
            EdgeError: `enrollment_refused` or `rate_limited`.
            BrokerUnavailable: The broker can't be asked.
        """
        try:
            check_form(token)
            if not await self._lookups.exists(token_key(token), address):
                raise unknown_token()
        except EdgeError as error:
            self._count_refusal(error)
            raise

    async def enroll(self, token: str, request: EnrollRequest) -> Enrollment:
        """Trade a use of the token for a worker's name, queues, site and team.

        Raises:
            EdgeError: `protocol_unsupported` or `enrollment_refused`.
        """
        if request.protocol not in SUPPORTED_PROTOCOLS:
            served = ", ".join(map(str, SUPPORTED_PROTOCOLS))
            raise EdgeError(ErrorCode.PROTOCOL_UNSUPPORTED, f"this relay serves protocol {served}")
        enrollment = await run_to_completion(self._enroll(token, request))
        # After the token was accepted: strangers cause no load on keepers.
        centre = await self._centre.facts()
        if centre is None:
            return enrollment
        _warn(enrollment.worker, request.airflow, centre.airflow_version)
        return enrollment.model_copy(update={"airflow": centre.airflow_version, "signing_keys": centre.signing_keys})

    async def _enroll(self, token: str, request: EnrollRequest) -> Enrollment:
        try:
            access, is_new = await self._store.enroll(token, request, now=datetime.now(UTC))
        except EdgeError as error:
            self._count_refusal(error)
            raise
        self._metrics.enrollments.labels("new" if is_new else "repeated").inc()
        if is_new:
            await self._audit.record(
                "worker-enrolled",
                TargetKind.WORKER,
                access.worker,
                actor=Actor(kind=ActorKind.WORKER, name=access.worker),
                site=access.site,
                facts={"host": access.hostname, "airflow": request.airflow},
            )
            await self._credentials.announce(access.secret_hash)
        settings = self._credentials.settings(access)
        return Enrollment(worker=access.worker, site=access.site, team=access.team, settings=settings)

    def _count_refusal(self, error: EdgeError) -> None:
        if error.code is ErrorCode.ENROLLMENT_REFUSED:
            self._metrics.enrollments.labels("refused").inc()


def _warn(worker: str, runtime: str | None, centre: str) -> None:
    """A runtime that is too new is no reason to refuse: the enrolled worker can install another one."""
    if (fault := runtime_mismatch(runtime, centre)) is not None:
        log.warning("runtime_too_new", worker=worker, runtime=runtime, centre=centre, means=fault)
