"""The checks of keepers and their gates that the doctors of the centre have in common."""

import asyncio
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edge_schemas.gate.auth import MAX_SKEW_S, SIGNATURE_HEADER, GateCall, check_answer, sign_call
from edge_schemas.wire.routes import GATE_CENTRE, HEALTHZ, REQUEST_ID_HEADER, WORKER_HEADER
from edge_service.findings import Check, Finding, Status, failed, ok, warning
from edge_service.http_probe import LookFailed, Seen, look, trust

CONNECT, CLOCK, SECRET, KEEPER = "gate.connect", "gate.clock", "gate.secret", "gate.keeper"
SKEW_WARNING_S = 10.0
DATABASE_OVERDUE_S = 30.0


class KeeperDoctor:
    """Looks at each gate.

    Args:
        urls: Base addresses of the gates, without a path.
        key: The secret that relay and gate share; None if it can't be read: then nothing is signed.
        setting: How the setting with the addresses is called, for advice.
        secret_setting: The same of the secret.
    """

    def __init__(
        self, urls: Sequence[str], key: bytes | None, ca_file: Path | None, *, setting: str, secret_setting: str
    ) -> None:
        self._urls = [url.rstrip("/") for url in urls]
        self._key = key
        self._ca_file = ca_file
        self._setting = setting
        self._secret_setting = secret_setting
        self._seen: dict[str, Seen] = {}

    def checks(self, *, secret_needs: tuple[str, ...] = ()) -> Iterator[Check]:
        """From the outermost layer inwards.

        Args:
            secret_needs: Checks without which there is no secret to try.
        """
        yield Check(CONNECT, self._connect)
        yield Check(CLOCK, self._clock, (CONNECT,))
        yield Check(SECRET, self._secret, (CLOCK, *secret_needs))
        yield Check(KEEPER, self._keeper, (CONNECT,))

    async def _connect(self) -> list[Finding]:
        answers = await asyncio.gather(*(self._get(url, HEALTHZ) for url in self._urls), return_exceptions=True)
        findings = []
        for url, answer in zip(self._urls, answers, strict=True):
            if isinstance(answer, Seen) and _health(answer) is not None:
                self._seen[url] = answer
                findings.append(ok(CONNECT, f"a keeper answers at {url}"))
            elif isinstance(answer, Seen):
                text = f"Correct {self._setting}, or what stands in front of the keeper."
                findings.append(failed(CONNECT, f"what answers at {url} is no keeper (status {answer.status})", text))
            elif isinstance(answer, (LookFailed, OSError)):
                text = (
                    f"Start 'airflow edge-relay keeper' there, or correct {self._setting}. The keeper listens on "
                    "[edge_relay] gate_host, which must be an address that relays reach."
                )
                findings.append(failed(CONNECT, f"no keeper at {url}: {answer}", text))
            elif isinstance(answer, BaseException):
                raise answer
        # One of several keepers is enough: the relay goes to the next one.
        return [_weaker(one) for one in findings] if self._seen else findings

    async def _clock(self) -> list[Finding]:
        return [self._clock_of(url, seen) for url, seen in self._seen.items()]

    def _clock_of(self, url: str, seen: Seen) -> Finding:
        skew_s = 0.0 if seen.date is None else seen.date - time.time()
        if abs(skew_s) <= SKEW_WARNING_S:
            return ok(CLOCK, f"the clock at {url} is within {SKEW_WARNING_S:g} s of this machine's")
        text = "Let both machines keep time by NTP."
        seen_text = f"the clock at {url} is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
        if abs(skew_s) > MAX_SKEW_S:
            return failed(CLOCK, f"{seen_text}; beyond {MAX_SKEW_S} s each call is refused", text)
        return warning(CLOCK, seen_text, text)

    async def _secret(self) -> list[Finding]:
        return [await self._secret_of(url, self._key) for url in self._seen if self._key is not None]

    async def _secret_of(self, url: str, key: bytes) -> Finding:
        call = GateCall("GET", GATE_CENTRE, "", uuid.uuid4().hex, b"")
        signature, nonce = sign_call(key, call, now=time.time())
        headers = {SIGNATURE_HEADER: signature, WORKER_HEADER: "", REQUEST_ID_HEADER: call.request_id}
        try:
            seen = await self._get(url, GATE_CENTRE, headers)
        except LookFailed as error:
            return failed(SECRET, f"no answer to a signed call at {url}: {error}", "Look at the keeper's log.")
        told = {name.lower(): value for name, value in seen.headers.items()}.get(SIGNATURE_HEADER.lower(), "")
        if not check_answer(key, nonce, seen.status, seen.body, told):
            return self._unsigned(url, seen)
        if seen.status != 200:
            return failed(SECRET, f"{url} answers {seen.status}: {_detail(seen)}", "Mend the setting of the keeper.")
        facts = json.loads(seen.body)
        return ok(SECRET, f"{url} takes our secret; Airflow {facts.get('airflow_version')}")

    def _unsigned(self, url: str, seen: Seen) -> Finding:
        if seen.status == 401:
            text = (
                f"Relays and keepers need one secret. Here it is {self._secret_setting}; the keeper's is [edge_relay] "
                "gate_secret, or gate.secret in its secrets_dir. Restart what you change."
            )
            return failed(SECRET, f"{url} has another secret than we", text)
        if seen.status == 404:
            return failed(SECRET, f"the keeper at {url} is of an older release", "Upgrade keepers before relays.")
        text = f"Something between here and the keeper answers or changes answers: correct {self._setting}."
        return failed(SECRET, f"{url} answers {seen.status} without a keeper's signature", text)

    async def _keeper(self) -> list[Finding]:
        return [_judge(url, _health(seen) or {}) for url, seen in self._seen.items()]

    async def _get(self, url: str, path: str, headers: dict[str, str] | None = None) -> Seen:
        tls = trust(self._ca_file) if url.startswith("https:") else None
        return await look(f"{url}{path}", headers, tls=tls)


def _weaker(finding: Finding) -> Finding:
    if finding.status is not Status.FAILED:
        return finding
    return warning(finding.check, finding.detail, finding.advice)


def _health(seen: Seen) -> dict[str, Any] | None:
    """What a keeper tells of itself; None if whoever answered is none."""
    try:
        told = json.loads(seen.body)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "broker_connected" in told and seen.status in (200, 503) else None


def _judge(url: str, health: dict[str, Any]) -> Finding:
    looked = health.get("database_seen_s_ago")
    if not health["broker_connected"]:
        text = "Run 'airflow edge-relay doctor' on its machine: it looks at NATS as the user keeper."
        return failed(KEEPER, f"the keeper at {url} is not connected to NATS", text)
    if looked is None or looked > DATABASE_OVERDUE_S:
        text = "Look at [database] sql_alchemy_conn of the keeper, at its log, and whether the database is up."
        return failed(KEEPER, f"the keeper at {url} does not see Airflow's database", text)
    if not health.get("view_complete"):
        text = "Wait some seconds. If it stays so, look at the keeper's log and at the rights of the NATS user keeper."
        return failed(KEEPER, f"the keeper at {url} is still reading the jobs", text)
    if not health.get("hears_relays"):
        text = "Start a relay. Until one has served for a while the keeper gives up no job, which is as it should be."
        return warning(KEEPER, f"the keeper at {url} hears of no relay that serves workers", text)
    return ok(KEEPER, f"the keeper at {url} sees NATS, Airflow's database and {health.get('unfinished_jobs')} jobs")


def _detail(seen: Seen) -> str:
    try:
        told = json.loads(seen.body)
    except ValueError:
        return "no problem in JSON"
    return str(told.get("detail") or told.get("title") or "") if isinstance(told, dict) else ""
