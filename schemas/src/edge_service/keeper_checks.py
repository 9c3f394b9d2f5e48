"""The checks of keepers and their gates that the doctors of the centre have in common."""

import asyncio
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from edge_schemas.gate.auth import MAX_SKEW_S, SIGNATURE_HEADER, GateCall, check_answer, sign_call
from edge_schemas.wire.routes import GATE_CENTRE, HEALTHZ, REQUEST_ID_HEADER, WORKER_HEADER
from edge_service.findings import Check, Finding, Status, failed, ok, warning
from edge_service.http_probe import NoHttpAnswer, ProbeResult, probe, trust

CONNECT, CLOCK, SECRET, KEEPER = "gate.connect", "gate.clock", "gate.secret", "gate.keeper"
SKEW_WARNING_S = 10.0
DATABASE_OVERDUE_S = 30.0


class KeeperHealth(TypedDict):
    """The fields of a keeper's `/healthz` that are used here."""

    broker_connected: bool
    database_checked_s_ago: NotRequired[float | None]
    view_complete: NotRequired[bool]
    contact_possible: NotRequired[bool]
    unfinished_jobs: NotRequired[int]


class KeeperDoctor:
    """The checks of each gate.

    Args:
        urls: Base addresses of the gates, without a path.
        key: The secret that relay and gate share; None if it can't be read: then no call is signed.
        setting: The name of the setting with the addresses, for advice.
        secret_setting: The name of the setting with the secret.
    """

    def __init__(
        self, urls: Sequence[str], key: bytes | None, ca_file: Path | None, *, setting: str, secret_setting: str
    ) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._key = key
        self._ca_file = ca_file
        self._setting = setting
        self._secret_setting = secret_setting
        self._seen: dict[str, ProbeResult] = {}

    def checks(self, *, secret_needs: tuple[str, ...] = ()) -> Iterator[Check]:
        """From the outermost layer inwards.

        Args:
            secret_needs: Checks that must pass before the secret is checked.
        """
        yield Check(CONNECT, self._connect)
        yield Check(CLOCK, self._clock, (CONNECT,))
        yield Check(SECRET, self._secret, (CLOCK, *secret_needs))
        yield Check(KEEPER, self._keeper, (CONNECT,))

    async def _connect(self) -> list[Finding]:
        answers = await asyncio.gather(*(self._get(url, HEALTHZ) for url in self._urls), return_exceptions=True)
        findings = []
        for url, answer in zip(self._urls, answers, strict=True):
            if isinstance(answer, ProbeResult) and _health(answer) is not None:
                self._seen[url] = answer
                findings.append(ok(CONNECT, f"a keeper answers at {url}"))
            elif isinstance(answer, ProbeResult):
                text = f"Correct {self._setting}, or the proxy in front of the keeper."
                findings.append(failed(CONNECT, f"what answers at {url} is no keeper (status {answer.status})", text))
            elif isinstance(answer, (NoHttpAnswer, OSError)):
                text = (
                    f"Start 'airflow edge-relay keeper' there, or correct {self._setting}. The keeper listens on "
                    "[edge_relay] gate_host, which must be an address that relays reach."
                )
                findings.append(failed(CONNECT, f"no keeper at {url}: {answer}", text))
            elif isinstance(answer, BaseException):
                raise answer
        # One of several keepers is enough: the relay tries the next one.
        return [_weaker(one) for one in findings] if self._seen else findings

    async def _clock(self) -> list[Finding]:
        return [self._clock_of(url, seen) for url, seen in self._seen.items()]

    def _clock_of(self, url: str, seen: ProbeResult) -> Finding:
        skew_s = 0.0 if seen.date is None else seen.date - time.time()
        if abs(skew_s) <= SKEW_WARNING_S:
            return ok(CLOCK, f"the clock at {url} is within {SKEW_WARNING_S:g} s of this machine's")
        text = "Synchronise both machines by NTP."
        seen_text = f"the clock at {url} is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
        if abs(skew_s) > MAX_SKEW_S:
            return failed(CLOCK, f"{seen_text}; beyond {MAX_SKEW_S} s each call is rejected", text)
        return warning(CLOCK, seen_text, text)

    async def _secret(self) -> list[Finding]:
        return [await self._secret_of(url, self._key) for url in self._seen if self._key is not None]

    async def _secret_of(self, url: str, key: bytes) -> Finding:
        call = GateCall("GET", GATE_CENTRE, "", uuid.uuid4().hex, b"")
        signature, nonce = sign_call(key, call, now=time.time())
        headers = {SIGNATURE_HEADER: signature, WORKER_HEADER: "", REQUEST_ID_HEADER: call.request_id}
        try:
            seen = await self._get(url, GATE_CENTRE, headers)
        except NoHttpAnswer as error:
            return failed(SECRET, f"no answer to a signed call at {url}: {error}", "Read the keeper's log.")
        answer_headers = {name.lower(): value for name, value in seen.headers.items()}
        answer_signature = answer_headers.get(SIGNATURE_HEADER.lower(), "")
        if not check_answer(key, nonce, seen.status, seen.body, answer_signature):
            return self._unsigned(url, seen)
        if seen.status != 200:
            return failed(SECRET, f"{url} answers {seen.status}: {_detail(seen)}", "Correct the setting of the keeper.")
        facts = json.loads(seen.body)
        return ok(SECRET, f"{url} accepts our secret; Airflow {facts.get('airflow_version')}")

    def _unsigned(self, url: str, seen: ProbeResult) -> Finding:
        if seen.status == 401:
            text = (
                f"Relays and keepers need one secret. Here it is {self._secret_setting}; the keeper's is [edge_relay] "
                "gate_secret, or gate.secret in its secrets_dir. Restart what you change."
            )
            return failed(SECRET, f"{url} has another secret than this machine", text)
        if seen.status == 404:
            return failed(SECRET, f"the keeper at {url} is of an older release", "Upgrade keepers before relays.")
        text = f"Something between here and the keeper answers or changes answers: correct {self._setting}."
        return failed(SECRET, f"{url} answers {seen.status} without a keeper's signature", text)

    async def _keeper(self) -> list[Finding]:
        return [_judge(url, _health(seen) or KeeperHealth(broker_connected=False)) for url, seen in self._seen.items()]

    async def _get(self, url: str, path: str, headers: dict[str, str] | None = None) -> ProbeResult:
        tls = trust(self._ca_file) if url.startswith("https:") else None
        return await probe(f"{url}{path}", headers, tls=tls)


def _weaker(finding: Finding) -> Finding:
    if finding.status is not Status.FAILED:
        return finding
    return warning(finding.check, finding.detail, finding.advice)


def _health(seen: ProbeResult) -> KeeperHealth | None:
    """The health that a keeper reports; None if the answer is not from a keeper."""
    try:
        health: object = json.loads(seen.body)
    except ValueError:
        return None
    is_health = isinstance(health, dict) and "broker_connected" in health and seen.status in (200, 503)
    return cast("KeeperHealth", health) if is_health else None


def _judge(url: str, health: KeeperHealth) -> Finding:
    seen_s_ago = health.get("database_checked_s_ago")
    if not health["broker_connected"]:
        text = "Run 'airflow edge-relay doctor' on its machine: it checks NATS as the user keeper."
        return failed(KEEPER, f"the keeper at {url} is not connected to NATS", text)
    if seen_s_ago is None or seen_s_ago > DATABASE_OVERDUE_S:
        text = "Check [database] sql_alchemy_conn of the keeper, its log, and whether the database is up."
        return failed(KEEPER, f"the keeper at {url} does not see Airflow's database", text)
    if not health.get("view_complete"):
        text = (
            "Wait some seconds. If this does not change, check the keeper's log and the rights of the NATS user keeper."
        )
        return failed(KEEPER, f"the keeper at {url} is still reading the jobs", text)
    if not health.get("contact_possible"):
        text = "Start a relay. Until one has served for a while the keeper gives up no job, as intended."
        return warning(KEEPER, f"the keeper at {url} receives no signal from a relay that serves workers", text)
    return ok(KEEPER, f"the keeper at {url} sees NATS, Airflow's database and {health.get('unfinished_jobs')} jobs")


def _detail(seen: ProbeResult) -> str:
    try:
        problem: object = json.loads(seen.body)
    except ValueError:
        return "no problem in JSON"
    return str(problem.get("detail") or problem.get("title") or "") if isinstance(problem, dict) else ""
