"""The checks of NATS that the doctors of the centre have in common, from DNS to the consumers.

They look as the NATS users whose passwords the doctor has, each at what its role may see.
"""

import asyncio
import base64
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

from edge_broker import layout, subjects
from edge_broker.connection.errors import NO_MESSAGE, STREAM_NOT_FOUND, JetStreamError
from edge_broker.doctor.probe import Address, AddressWrong, Denied, NobodyAnswers, Probe, ProbeFailed
from edge_broker.doctor.rights_probe import allows, missing_rights
from edge_service.findings import LOOK_LIMIT_S, Check, Finding, failed, ok, warning
from edge_service.threads import aside

CA_FILE = "settings.nats_ca_file"
DNS, CONNECT, VERSION, TLS = "nats.dns", "nats.connect", "nats.version", "nats.tls"
JETSTREAM, STREAMS, REPLICAS = "nats.jetstream", "nats.streams", "nats.replicas"
CONSUMERS, STORE, CLOCK = "nats.consumers", "nats.store", "nats.clock"
SKEW_WARNING_S = 10.0
NEARLY_FULL = 0.8
EXPIRES_SOON = timedelta(days=21)
CONSUMER_NOT_FOUND = 10014
_APPLY = "Run 'edge-relay streams apply' as NATS user admin."
_MANY_S = 20.0


class NatsDoctor:
    """The checks, and what they found out for checks of others. Use as an asynchronous context manager.

    Args:
        urls: Servers of one cluster.
        ca_file: As for `BrokerSettings`.
        passwords: Of the roles as which it looks; the first one is the component's own.
        setting: How the setting with the servers is called, for advice.
    """

    def __init__(
        self, urls: Sequence[str], ca_file: Path | None, passwords: Mapping[str, str], *, setting: str
    ) -> None:
        self._urls = urls
        self._ca_file = ca_file
        self._passwords = dict(passwords)
        self._setting = setting
        self._stack = AsyncExitStack()
        self._addresses: list[Address] = []
        self._greeted: list[Probe] = []
        self._good: list[Address] = []
        self._probes: dict[str, Probe] = {}
        self._streams: dict[str, dict[str, Any]] = {}
        self._skew_s: float | None = None
        self.queues: Callable[[], Sequence[tuple[str | None, str]]] = tuple
        """Queues that are known from elsewhere, for a role that can't list the consumers."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def checks(self, *, needs: tuple[str, ...] = ()) -> Iterator[Check]:
        """From the outermost layer inwards.

        Args:
            needs: Checks without which there is no password to log in with as the first role.

        `CA_FILE` must be among the checks before these.
        """
        own = next(iter(self._passwords))
        yield self._check(DNS, self._dns)
        yield self._check(CONNECT, self._connect, DNS)
        yield self._check(VERSION, self._version, CONNECT)
        yield self._check(TLS, self._tls, VERSION, CA_FILE)
        for role in self._passwords:
            known = needs if role == own else ()
            yield self._check(credentials(role), partial(self._credentials, role), TLS, *known)
            yield self._check(rights(role), partial(self._rights, role), credentials(role))
        yield self._check(JETSTREAM, self._jetstream, rights(own))
        yield self._check(STREAMS, self._check_streams, JETSTREAM)
        yield self._check(REPLICAS, self._replicas, STREAMS)
        yield self._check(CONSUMERS, self._consumers, STREAMS)
        yield self._check(STORE, self._store, STREAMS)
        yield self._check(CLOCK, self._clock, JETSTREAM)

    def _check(self, check: str, look: Callable[[], Awaitable[Finding | list[Finding]]], *needs: str) -> Check:
        """A check that takes it as a finding if NATS goes away while it looks, or has no leader."""

        async def guarded() -> Finding | list[Finding]:
            try:
                return await look()
            except (ProbeFailed, JetStreamError, OSError) as error:
                text = "Are all servers of NATS up, and has each stream a leader? Look at their logs, then try again."
                return failed(check, f"NATS does not answer as it should: {_reason(error)}", text)

        return Check(check, guarded, needs, _MANY_S if check in (CONSUMERS, STORE) else LOOK_LIMIT_S)

    async def values(self, bucket: str) -> dict[str, bytes]:
        """The keys of a bucket that have a value.

        Raises:
            Denied: None of the roles may read it.
        """
        stream = subjects.kv_stream(bucket)
        prefix = subjects.kv_subject(bucket, "")
        found: dict[str, bytes] = {}
        for subject in await self._subjects_of(stream, subjects.kv_subject(bucket, ">")):
            try:
                answer = await self._ask(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
            except JetStreamError as error:
                if error.code != NO_MESSAGE:
                    raise
                continue  # it has gone since it was listed
            if data := answer["message"].get("data"):
                found[subject.removeprefix(prefix)] = base64.b64decode(data)
        return found

    async def _dns(self) -> Finding:
        try:
            self._addresses = [Address.parse(url) for url in self._urls]
        except AddressWrong as error:
            return failed(DNS, str(error), f"Correct {self._setting}.")
        answers = await asyncio.gather(*(_resolve(address) for address in self._addresses), return_exceptions=True)
        bad = [
            f"{a.host}: {_reason(e)}"
            for a, e in zip(self._addresses, answers, strict=True)
            if isinstance(e, BaseException)
        ]
        self._addresses = [a for a, e in zip(self._addresses, answers, strict=True) if not isinstance(e, BaseException)]
        good = [f"{address.host} is {answer}" for address, answer in zip(self._addresses, _texts(answers), strict=True)]
        return _of_servers(DNS, good, bad, f"Is the name in {self._setting} right? This machine's DNS must know it.")

    async def _connect(self) -> Finding:
        answers = await asyncio.gather(*(Probe.greet(address) for address in self._addresses), return_exceptions=True)
        good, bad = [], []
        for address, answer in zip(self._addresses, answers, strict=True):
            if isinstance(answer, Probe):
                self._stack.callback(answer.close)
                self._greeted.append(answer)
                good.append(f"{address} is nats-server {answer.info.get('version')}")
            elif isinstance(answer, (OSError, ProbeFailed)):
                bad.append(f"{address}: {_reason(answer)}")
            else:
                raise answer
        advice = f"Is nats-server up there, is {self._setting} right, and do firewalls let this machine through?"
        return _of_servers(CONNECT, good, bad, advice)

    async def _version(self) -> Finding:
        oldest = ".".join(map(str, layout.OLDEST_SERVER))
        bad = [
            f"{probe.address} is nats-server {probe.info.get('version')}"
            for probe in self._greeted
            if probe.version < layout.OLDEST_SERVER
        ]
        if bad:
            text = f"Install nats-server {oldest} or later: an older one ignores what streams need, without a word."
            return failed(VERSION, "; ".join(bad), text)
        return ok(VERSION, f"{oldest} or later, as it must be")

    async def _tls(self) -> Finding:
        good, bad, advice = [], [], ""
        for probe in self._greeted:
            address = probe.address
            if not probe.needs_tls:
                if address.tls or self._ca_file is not None:
                    bad.append(f"{address} speaks no TLS: the password goes there in clear")
                    advice = f"Turn TLS on in nats-server, or write nats:// and no CA file in {self._setting}."
                else:
                    good.append(f"{address} asks for no TLS")
                self._good.append(address)
                continue
            try:
                valid_until = await probe.secure(self._ca_file)
            except (ssl.SSLError, OSError) as error:
                bad.append(f"{address}: {_reason(error)}")
                advice = _tls_advice(error, self._setting)
                continue
            self._good.append(address)
            if valid_until - datetime.now(UTC) < EXPIRES_SOON:
                bad.append(f"the certificate of {address} ends at {valid_until:%F}")
                advice = advice or "Renew the certificate of nats-server."
            else:
                good.append(f"{address}: certificate valid until {valid_until:%F}")
        if not bad:
            return ok(TLS, "; ".join(good))
        return (warning if self._good else failed)(TLS, "; ".join(bad), advice)

    async def _credentials(self, role: str) -> Finding:
        probe = await Probe.greet(self._good[0])
        self._stack.callback(probe.close)
        if probe.needs_tls:
            await probe.secure(self._ca_file)
        try:
            await probe.log_in(role, self._passwords[role])
        except ProbeFailed as error:
            text = (
                f"Give nats-server and this machine the same password of user {role}: {role}.password in the secrets "
                "folder. 'edge-relay nats-config' prints a configuration with all users."
            )
            return failed(credentials(role), f"user {role} is refused: {error}", text)
        self._probes[role] = probe
        return ok(credentials(role), f"user {role} is let in by {probe.address}")

    async def _rights(self, role: str) -> Finding:
        missing = await missing_rights(self._probes[role], role)
        if missing:
            text = (
                "Let nats-server give it these rights and reload: 'edge-relay nats-config' prints the users with what "
                "each may do."
            )
            return failed(rights(role), f"user {role} may not {', '.join(missing)}", text)
        return ok(rights(role), f"user {role} may do all that it needs")

    async def _jetstream(self) -> Finding:
        try:
            await self._info(subjects.JOBS)
        except JetStreamError as error:
            if error.code != STREAM_NOT_FOUND:
                return failed(
                    JETSTREAM, f"JetStream refuses: {error}", "Turn JetStream on for the account of our users."
                )
        except NobodyAnswers:
            if not any(probe.info.get("jetstream") for probe in self._greeted):
                text = "Add a 'jetstream' block with a 'store_dir' to the configuration of nats-server and restart it."
                return failed(JETSTREAM, "JetStream is turned off in nats-server", text)
            text = "Is a majority of the cluster's servers up? Look at the logs of nats-server for a leader."
            return failed(JETSTREAM, "JetStream does not answer: it has no leader, or is not ready", text)
        return ok(JETSTREAM, "JetStream answers")

    async def _check_streams(self) -> Finding:
        missing, wrong, unusual, seen = [], [], [], 0
        for config in layout.stream_configs():
            name = config["name"]
            if not self._may(f"STREAM.INFO.{name}"):
                continue
            try:
                found = (await self._info(name))["config"]
            except JetStreamError as error:
                if error.code != STREAM_NOT_FOUND:
                    raise
                missing.append(name)
                continue
            seen += 1
            for option in layout.differences(config, found):
                text = f"{name}: {option} is {found.get(option)!r}, not {config[option]!r}"
                if option in layout.ESSENTIAL:
                    wrong.append(text)
                elif option not in layout.CHOSEN:
                    unusual.append(text)
        if missing:
            return failed(STREAMS, f"there is no stream {', '.join(missing)}", _APPLY)
        if wrong:
            return failed(STREAMS, "; ".join(wrong), f"{_APPLY} What it can't change it says.")
        if unusual:
            return warning(STREAMS, "; ".join(unusual), f"{_APPLY} What it can't change it says.")
        return ok(STREAMS, f"{seen} streams, with the settings that they need")

    async def _replicas(self) -> Finding:
        clustered = any(probe.info.get("cluster") for probe in self._greeted)
        return replicas_finding(self._streams, clustered=clustered)

    async def _consumers(self) -> list[Finding]:
        found = await self._consumer_infos()
        findings = [finding for info in found if (finding := _consumer_fault(info)) is not None]
        return findings or [ok(CONSUMERS, f"{len(found)} queues have a consumer with the settings that it needs")]

    async def _consumer_infos(self) -> list[dict[str, Any]]:
        call = f"CONSUMER.LIST.{subjects.JOBS}"
        if not self._may(call):
            return await self._known_consumers()
        infos: list[dict[str, Any]] = []
        while True:
            answer = await self._ask(call, {"offset": len(infos)})
            infos += answer.get("consumers") or ()
            if not answer.get("consumers") or len(infos) >= int(answer["total"]):
                return infos

    async def _known_consumers(self) -> list[dict[str, Any]]:
        """Of the queues that have waiting jobs, and of those that are known from elsewhere."""
        waiting = await self._subjects_of(subjects.JOBS, "edge.jobs.>")
        queues = {subjects.parse_job_subject(subject)[:2] for subject in waiting} | set(self.queues())
        infos = []
        for name in sorted({subjects.consumer_name(*queue) for queue in queues}):
            try:
                infos.append(await self._ask(f"CONSUMER.INFO.{subjects.JOBS}.{name}"))
            except JetStreamError as error:
                if error.code != CONSUMER_NOT_FOUND:  # of a queue that was never used
                    raise
        return infos

    async def _store(self) -> Finding:
        full = []
        for name in self._streams.keys() - {subjects.LOGS}:  # where the oldest make room for the new
            info = self._streams[name]
            most = info["config"].get("max_bytes", -1)
            if most > 0 and info["state"]["bytes"] > NEARLY_FULL * most:
                full.append(f"{name} holds {_mib(info['state']['bytes'])} of {_mib(most)}")
        account = await self._ask("INFO") if self._may("INFO") else {}
        most = account.get("limits", {}).get("max_storage", -1)
        used = account.get("storage", 0)
        if most > 0 and used > NEARLY_FULL * most:
            full.append(f"the account holds {_mib(used)} of {_mib(most)}")
        if full:
            text = (
                "A full store takes no more jobs. Serve or purge queues, or raise the limit: of a stream by "
                "'nats stream edit --max-bytes', of nats-server by 'max_file'."
            )
            return warning(STORE, "; ".join(full), text)
        streams = sum(info["state"]["bytes"] for info in self._streams.values())
        return ok(STORE, f"the store holds {_mib(used or streams)}, and has room")

    async def _clock(self) -> Finding:
        if self._skew_s is None or abs(self._skew_s) <= SKEW_WARNING_S:
            return ok(CLOCK, f"the clock of nats-server is within {SKEW_WARNING_S:g} s of this machine's")
        side = "ahead of" if self._skew_s > 0 else "behind"
        text = "Let all machines of the centre keep time by NTP: ages and expiries are compared between them."
        return warning(CLOCK, f"nats-server is {abs(self._skew_s):.0f} s {side} this machine", text)

    async def _info(self, stream: str) -> dict[str, Any]:
        asked_at = time.time()
        info = self._streams[stream] = await self._ask(f"STREAM.INFO.{stream}")
        if told := info.get("ts"):
            self._skew_s = datetime.fromisoformat(told).timestamp() - (asked_at + time.time()) / 2
        return info

    async def _subjects_of(self, stream: str, pattern: str) -> list[str]:
        found: list[str] = []
        while True:
            answer = await self._ask(f"STREAM.INFO.{stream}", {"subjects_filter": pattern, "offset": len(found)})
            page = answer["state"].get("subjects") or {}
            found += page
            if not page or len(found) >= int(answer.get("total", 0)):
                return found

    def _may(self, call: str) -> bool:
        return self._role_for(call) is not None

    def _role_for(self, call: str) -> str | None:
        return next((role for role in self._probes if allows(role, f"$JS.API.{call}")), None)

    async def _ask(self, call: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        role = self._role_for(call)
        if role is None:
            raise Denied(f"no role of {', '.join(self._probes)} may ask {call}")
        return await self._probes[role].api(call, body)


def ca_file_finding(setting: str, path: Path | None) -> Finding:
    """Whether the CA file can be used that a setting names."""
    if path is None:
        return ok(CA_FILE, "NATS servers are trusted as the machine trusts")
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError as error:  # ssl.SSLError is one
        text = f"Name a PEM file with the CA of nats-server in {setting}, or nothing."
        return failed(CA_FILE, f"{setting}: {path} can't be used: {_reason(error)}", text)
    return ok(CA_FILE, f"{path} says which NATS servers are trusted")


def credentials(role: str) -> str:
    """The id of the check."""
    return f"nats.credentials.{role}"


def rights(role: str) -> str:
    """The id of the check."""
    return f"nats.rights.{role}"


def replicas_finding(streams: Mapping[str, dict[str, Any]], *, clustered: bool) -> Finding:
    """How many copies there are of the streams, by what the server says of each."""
    single, behind = [], []
    for name, info in streams.items():
        if clustered and info["config"].get("num_replicas", 1) < 2:
            single.append(name)
        peers = (info.get("cluster") or {}).get("replicas") or ()
        behind += [f"{name} on {peer['name']}" for peer in peers if peer.get("offline") or not peer.get("current")]
    if behind:
        return warning(REPLICAS, f"copies are away or behind: {', '.join(behind)}", "Are all servers of NATS up?")
    if single:
        text = "Run 'edge-relay streams apply --replicas 3': what has one copy is away whenever its server is."
        return warning(REPLICAS, f"one copy only, in a cluster: {', '.join(single)}", text)
    fewest = min((info["config"].get("num_replicas", 1) for info in streams.values()), default=1)
    where = "a cluster" if clustered else "a single server"
    return ok(REPLICAS, f"copies of each stream: {fewest}, on {where}")


def _consumer_fault(info: dict[str, Any]) -> Finding | None:
    name, config = info["name"], info["config"]
    try:
        team, queue, _ = subjects.parse_job_subject(config.get("filter_subject", ""))
    except ValueError:
        text = f"It takes jobs away from the queues. If it is nobody's: 'nats consumer rm {subjects.JOBS} {name}'."
        return warning(CONSUMERS, f"consumer {name} is of no queue", text)
    wanted = layout.consumer_config(team, queue)
    wrong = layout.differences(wanted, config)
    if wrong:
        what = "; ".join(f"{option} is {config.get(option)!r}, not {wanted[option]!r}" for option in wrong)
        return failed(CONSUMERS, f"consumer {name} of queue {queue}: {what}", _consumer_advice(name, wrong))
    if info.get("paused"):
        text = f"No job of it is handed out. 'nats consumer resume {subjects.JOBS} {name}' ends the pause."
        return warning(CONSUMERS, f"queue {queue} is paused", text)
    return None


def _consumer_advice(name: str, wrong: list[str]) -> str:
    remove = f"'nats consumer rm {subjects.JOBS} {name}' as admin"
    if "max_waiting" in wrong:
        return f"It can't be changed: {remove}; its jobs stay, and a scheduler makes it anew within a minute."
    return f"A scheduler mends it within a minute where jobs wait. Or {remove}: its jobs stay, it is made anew."


def _of_servers(check: str, good: list[str], bad: list[str], advice: str) -> Finding:
    if not bad:
        return ok(check, "; ".join(dict.fromkeys(good)))
    return (warning if good else failed)(check, "; ".join(dict.fromkeys(bad)), advice)


async def _resolve(address: Address) -> str:
    answers = await aside(lambda: socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))
    return str(answers[0][4][0])


def _texts(answers: Sequence[str | BaseException]) -> list[str]:
    return [answer for answer in answers if isinstance(answer, str)]


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if isinstance(error, socket.gaierror):
        return str(error.strerror)
    # asyncio's own text names the address again, and not the reason.
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


def _tls_advice(error: BaseException, setting: str) -> str:
    text = _reason(error).lower()
    if "expired" in text:
        return "Renew the certificate of nats-server."
    if "mismatch" in text or "not valid for" in text:
        return f"Write a name that is in the certificate of nats-server into {setting}, or renew it with this name."
    return "Name the CA that signed nats-server's certificate in the setting for its CA file."


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
