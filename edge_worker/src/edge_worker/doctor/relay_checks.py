"""Checks with the agent's own client: is it a relay, is it ready, does it know this worker, what may the worker do?"""

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from edge_schemas.gate.centre import WorkerFacts
from edge_schemas.wire import routes
from edge_schemas.wire.errors import ErrorCode
from edge_schemas.wire.polls import PROTOCOL
from edge_service.findings import Check, Finding, Status, failed, ok, warning
from edge_worker import __version__
from edge_worker.doctor.limits import Deadline
from edge_worker.doctor.tls_checks import SKEW_THAT_MATTERS_S, clock_difference, skew_s
from edge_worker.relay.call_result import CallError, NoAnswer, Refused, Reply, check_reply
from edge_worker.relay.client import RelayClient
from edge_worker.state.state import Identity

URL, CLOCK, READY, CREDENTIAL = "relay.url", "clock.skew", "relay.ready", "credential.known"
PROTOCOL_CHECK, QUEUES, VERSIONS = "protocol.served", "queues.allowed", "versions.relay"
_CALL_S = 6.0
_GUESS_S = 2.0
_FACTS_S = 13.0
"""The relay asks a keeper first, and waits ten seconds for one that does not answer."""
_NOTICEABLE_SKEW_S = 5.0
_GATEWAY_STATUSES = {502, 503, 504}
_USUAL_PREFIXES = ("/edge-relay", "/relay", "/edge")
_SLOW = "The relay, or a proxy in front of it, is slow or hangs: ask its operator to check it."
_ENROL_AGAIN = (
    "Have an operator make an enrolment token (`edge-relay enroll-token create`) and pass it to `edge-worker enroll "
    "--renew`."
)


class RelayAddress:
    """Checks that a relay answers at the configured address, and compares the clocks.

    Args:
        relay_url: The configured address.
        client: An open client for it.
        elsewhere: Makes a client, without a credential, for another address with the same proxy.
    """

    def __init__(self, relay_url: str, client: RelayClient, elsewhere: Callable[[str], RelayClient]) -> None:
        self._url = relay_url
        self._client = client
        self._elsewhere = elsewhere
        self._reply: Reply | None = None

    def checks(self, needs: str, deadline: Deadline) -> list[Check]:
        """The checks of the address and of the clock."""
        return [
            deadline.check(URL, self.url, needs=(needs,), limit_s=_CALL_S + _GUESS_S, when_late=_SLOW),
            deadline.check(CLOCK, self.clock, needs=(URL,), limit_s=1, when_late=_SLOW),
        ]

    async def url(self) -> Finding:
        """Whether a relay answers at the address."""
        try:
            reply, request_id = await self._client.probe(routes.HEALTHZ, timeout_s=_CALL_S)
        except NoAnswer as error:
            return failed(URL, f"{self._url} does not answer: {error}", "Check the lines above, and try again.")
        self._reply = reply
        why = _why_not_relay(reply, request_id)
        if why is None:
            return ok(URL, f"a relay answers at {self._url}")
        if reply.status in _GATEWAY_STATUSES:
            return ok(URL, f"a load balancer or proxy answers at {self._url}{_server(reply)}")
        if reply.status == 407:
            advice = "Set user and password with --proxy-user and --proxy-password-file."
            return failed(URL, "the proxy requires a login before it forwards calls", advice)
        return failed(URL, f"something else answers at {self._url}{_server(reply)}: {why}", await self._find_relay())

    async def clock(self) -> Finding:
        """This machine's clock against the relay's."""
        skew = skew_s(self._reply.headers.get("Date", "") if self._reply else "", datetime.now(UTC))
        if skew is None:
            return Finding(CLOCK, Status.NOT_TRIED, f"{CLOCK}: the answer contains no time")
        # The header has whole seconds, and the answer took some time.
        difference = "within a second of" if abs(skew) < 1 else clock_difference(skew)
        detail = f"this machine's clock is {difference} the relay's"
        advice = "Set this machine's clock, and synchronise it with a time server (chrony, systemd-timesyncd)."
        if abs(skew) > SKEW_THAT_MATTERS_S:
            wrong = " With a wrong clock certificates look expired or not valid yet, and Airflow shows wrong times."
            return failed(CLOCK, detail, advice + wrong)
        return warning(CLOCK, detail, advice) if abs(skew) > _NOTICEABLE_SKEW_S else ok(CLOCK, detail)

    async def _find_relay(self) -> str:
        """The advice, after probing above and below the configured path."""
        prefix = urlsplit(self._url).path
        root = self._url.removesuffix(prefix)
        parts = prefix.strip("/").split("/")
        above = ["/" + "/".join(parts[:n]) if n else "" for n in range(len(parts) - 1, -1, -1)] if prefix else []
        candidates = dict.fromkeys([*above, *(prefix + usual for usual in _USUAL_PREFIXES), *_USUAL_PREFIXES])
        urls = [root + candidate for candidate in candidates if candidate != prefix]
        for url, is_relay in zip(urls, await asyncio.gather(*map(self._is_relay, urls)), strict=True):
            if is_relay:
                return f"The relay is at {url}: make that the relay's URL (--relay-url)."
        doubt = f"the path {prefix} in the URL" if prefix else "a path after the host name missing in the URL"
        return (
            f"Ask the relay's operator for its URL: is the host right, and is {doubt}? A page to log in at may also "
            "be the network's own: open it in a browser here."
        )

    async def _is_relay(self, url: str) -> bool:
        async with self._elsewhere(url) as client:
            try:
                reply, request_id = await client.probe(routes.HEALTHZ, timeout_s=_GUESS_S)
            except NoAnswer:
                return False
        return _why_not_relay(reply, request_id) is None


class RelayChecks:
    """Asks the relay whether it can work, and what it knows about this worker.

    Args:
        relay_url: The address of the relay.
        client: An open client, with the worker's credential.
        identity: Of the worker; None before its enrolment.
        wanted: Queues that this worker is expected to serve.

    Attributes:
        facts: What the relay knows about this worker; None until it has answered, or if it cannot report it.
    """

    def __init__(self, relay_url: str, client: RelayClient, identity: Identity | None, wanted: Sequence[str]) -> None:
        self._url = relay_url
        self._client = client
        self._identity = identity
        self._wanted = wanted
        self.facts: WorkerFacts | None = None

    def checks(self, deadline: Deadline) -> list[Check]:
        """From the relay's state to this worker's queues."""
        ready = deadline.check(READY, self.ready, needs=(URL,), limit_s=_CALL_S, when_late=_SLOW)
        if self._identity is None:
            return [ready, deadline.check(CREDENTIAL, _not_enrolled, limit_s=1, when_late=_SLOW)]
        return [
            ready,
            deadline.check(CREDENTIAL, self.credential, needs=(READY,), limit_s=_FACTS_S, when_late=_SLOW),
            deadline.check(PROTOCOL_CHECK, self.protocol, needs=(CREDENTIAL,), limit_s=1, when_late=_SLOW),
            deadline.check(QUEUES, self.queues, needs=(CREDENTIAL,), limit_s=1, when_late=_SLOW),
            deadline.check(VERSIONS, self.versions, needs=(CREDENTIAL,), limit_s=1, when_late=_SLOW),
        ]

    async def ready(self) -> Finding:
        """Whether the relay can hand out jobs."""
        try:
            reply, request_id = await self._client.probe(routes.READYZ, timeout_s=_CALL_S)
            check_reply(reply, request_id)
        except Refused as refused:
            reason = refused.problem.detail or refused.problem.title
            if refused.code == ErrorCode.DRAINING:
                return warning(
                    READY, f"this relay is shutting down: {reason}", "This relay or another one should be back soon."
                )
            advice = "This machine is not the cause: have the relay's operator run `edge-relay doctor`."
            return failed(READY, f"the relay cannot work: {reason}", advice)
        except NoAnswer as error:
            if error.status in _GATEWAY_STATUSES:
                advice = (
                    "This machine is not the cause: the relay behind it is down or cannot be reached from there. "
                    "Inform its operator."
                )
                return failed(READY, f"no relay behind the load balancer or proxy: {error}", advice)
            return failed(
                READY, f"the relay did not report whether it is ready: {error}", "Try again; inform its operator."
            )
        return ok(READY, "the relay is ready")

    async def credential(self) -> Finding:
        """Whether the relay knows this worker."""
        try:
            self.facts = facts = await self._client.facts(timeout_s=_FACTS_S)
        except Refused as refused:
            return self._refused(refused)
        except CallError as error:
            return failed(CREDENTIAL, f"no answer: {error}", "Try again; check the lines above.")
        team = f", team {facts.team}" if facts.team else ""
        return ok(CREDENTIAL, f"the relay knows this worker as {facts.worker} at site {facts.site}{team}")

    def _refused(self, refused: Refused) -> Finding:
        if refused.code == ErrorCode.CREDENTIAL_REVOKED:
            return failed(CREDENTIAL, "this worker's credential was revoked by an operator", _ENROL_AGAIN)
        if refused.code == ErrorCode.UNAUTHENTICATED:
            where = self._identity.relay_url if self._identity else self._url
            advice = (
                f"Is it the relay where this worker was enrolled ({where})? If its store is a new one: {_ENROL_AGAIN}"
            )
            return failed(CREDENTIAL, f"the relay does not know this worker's credential ({refused})", advice)
        if refused.code == ErrorCode.NOT_FOUND:
            advice = (
                "Have the relay upgraded; until then only the agent's own log shows whether the credential is accepted."
            )
            return warning(CREDENTIAL, "the relay is too old to report what this worker may do", advice)
        return failed(CREDENTIAL, f"the relay refused: {refused}", "Have its operator check its log.")

    async def protocol(self) -> Finding:
        """Whether the relay serves the agent's protocol."""
        if self.facts is None:
            return _unknown(PROTOCOL_CHECK)
        served = self.facts.protocols
        detail = f"this agent speaks protocol {PROTOCOL}, the relay serves {', '.join(map(str, served)) or 'none'}"
        if PROTOCOL in served:
            return ok(PROTOCOL_CHECK, detail)
        older, newer = ("this agent", "the relay") if max(served, default=0) > PROTOCOL else ("the relay", "this agent")
        return failed(PROTOCOL_CHECK, detail, f"Upgrade {older}: it is too old for {newer}.")

    async def queues(self) -> Finding:
        """From which queues this worker gets jobs."""
        if self.facts is None:
            return _unknown(QUEUES)
        allowed = self.facts.queues
        change = (
            f"The enrolment token decides it: have one made with all queues that {self.facts.worker} is to serve "
            "(`edge-relay enroll-token create --queues …`) and pass it to `edge-worker enroll --renew`."
        )
        listed = ", ".join(allowed) or "none"
        if lacking := [queue for queue in self._wanted if queue not in allowed]:
            return failed(QUEUES, f"not allowed: {', '.join(lacking)}; allowed: {listed}", change)
        if not allowed:
            return failed(QUEUES, "this worker has no queue, so it gets no jobs", change)
        return ok(QUEUES, f"this worker serves {listed}")

    async def versions(self) -> Finding:
        """The versions of agent and relay. For information: the protocol decides."""
        if self.facts is None:
            return _unknown(VERSIONS)
        relay = self.facts.relay_version
        if relay == __version__:
            return ok(VERSIONS, f"agent and relay are both {relay}")
        detail = f"the agent is {__version__}, the relay {relay}"
        if _numbers(__version__) > _numbers(relay):
            return warning(VERSIONS, detail, "Upgrade the relay: it should be upgraded before its workers.")
        return ok(VERSIONS, detail)


async def _not_enrolled() -> Finding:
    return Finding(CREDENTIAL, Status.NOT_TRIED, f"{CREDENTIAL}: because this machine is not enrolled")


def _why_not_relay(reply: Reply, request_id: str) -> str | None:
    """Why this is not the answer of a relay; None if it is."""
    try:
        check_reply(reply, request_id)
    except NoAnswer as error:
        location = reply.headers.get("Location", "")
        return f"{error}, which leads to {urlsplit(location).hostname or location!r}" if location else str(error)
    except Refused as error:
        # A service that answers with problems need not be a relay: others answer so to an unknown path, too.
        return f"status {reply.status}, {error}"
    return None


def _server(reply: Reply) -> str:
    name = reply.headers.get("Server", "")
    return f" ({name[:60]})" if name else ""


def _unknown(check: str) -> Finding:
    return Finding(check, Status.NOT_TRIED, f"{check}: because the relay is too old to report it")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
