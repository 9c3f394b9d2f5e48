"""Enrolment: the worker creates a secret, the relay receives only its hash and answers with the worker's identity."""

import platform
from collections.abc import Callable

from edge_schemas.life.versions import runtime_mismatch
from edge_schemas.wire.polls import PROTOCOL
from edge_schemas.wire.workers import EnrollRequest, SecretKind, hash_secret, new_secret
from edge_worker.environment import proxy_environment
from edge_worker.host_client.launcher import installed_airflow
from edge_worker.log import EventLog
from edge_worker.relay.call_result import CallError
from edge_worker.relay.client import RelayClient
from edge_worker.relay.proxy import resolve_proxy
from edge_worker.relay.retry import Backoff, Fate, Pause, fate_of, until_final
from edge_worker.relay.tls import tls_context
from edge_worker.settings import Settings
from edge_worker.signing.pinned_keys import begin_trust
from edge_worker.state.state import Identity, PendingEnrollment, StateDir

log = EventLog("edge_worker.agent.enroll")


async def enroll(
    relay_url: str,
    token: str,
    settings: Settings,
    state: StateDir,
    *,
    pause: Pause,
    tries: int | None = None,
    on_retry: Callable[[str], None] = lambda _: None,
) -> Identity:
    """Enrols this worker and stores its identity.

    The secret is on disk before the call is made, and the next try uses it again: a lost answer creates no second
    worker and consumes no second use of the token.

    Args:
        relay_url: The address of the relay.
        token: The enrolment token.
        settings: For the proxy and the trusted authorities.
        state: The prepared state folder.
        pause: Waits between tries.
        tries: The most tries without an answer; fewer if a person must change something. None sets no limit.
        on_retry: Called with the reason why the last try failed.

    Raises:
        Refused: The relay does not accept the token.
        NoAnswer: The relay was not reached in so many tries.
    """
    pending = state.pending_enrollment()
    if pending is None or pending.relay_url != relay_url:
        pending = PendingEnrollment(relay_url=relay_url, secret=new_secret(SecretKind.WORKER))
        state.begin_enrollment(pending)
    request = EnrollRequest(
        protocol=PROTOCOL,
        secret_hash=hash_secret(pending.secret),
        hostname=platform.node()[:253],
        airflow=(installed_airflow(settings.runtime_python) or "")[:120] or None,
    )
    proxy = resolve_proxy(relay_url, settings, proxy_environment())
    async with RelayClient(relay_url, token, tls=tls_context(settings), proxy=proxy) as client:
        enrollment = await until_final(
            lambda: client.enroll(request), pause=pause, backoff=Backoff(first_s=0.5), on_retry=_limit(tries, on_retry)
        )
    identity = Identity(relay_url=relay_url, secret=pending.secret, enrollment=enrollment)
    state.complete_enrollment(identity)
    begin_trust(state.path, settings, enrollment.signing_keys)
    log.info("worker_enrolled", worker=enrollment.worker, site=enrollment.site, queues=list(enrollment.settings.queues))
    if (fault := runtime_mismatch(request.airflow, enrollment.airflow)) is not None:
        log.warning("runtime_too_new", runtime=request.airflow, centre=enrollment.airflow, means=fault)
    return identity


def _limit(tries: int | None, on_retry: Callable[[str], None]) -> Callable[[CallError, float], None]:
    failures = 0

    def failed(error: CallError, _delay_s: float) -> None:
        nonlocal failures
        failures += 1
        if tries is not None and (failures >= tries or fate_of(error) is Fate.RETRY_SLOWLY):
            raise error
        on_retry(str(error))

    return failed
