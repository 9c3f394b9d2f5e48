"""Checks of JetStream: streams, their copies, consumers, room in the store, and the server's clock."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from edge_broker import layout, subjects
from edge_broker.connection.errors import STREAM_NOT_FOUND, JetStreamError
from edge_broker.doctor.check_ids import CLOCK, CONSUMERS, JETSTREAM, STORE, STREAMS
from edge_broker.doctor.consumer_checks import consumer_fault, replicas_finding
from edge_broker.doctor.probe import NoAnswer
from edge_broker.doctor.session import NatsSession
from edge_broker.jetstream.consumer_info import ConsumerInfo, consumer_info, list_consumers
from edge_broker.jetstream.stream_info import (
    AccountInfo,
    StreamInfo,
    account_info,
    stream_info,
    subjects_with_messages,
)
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.polls import GRANT_WAIT_S
from edge_service.findings import Finding, failed, ok, warning

SKEW_WARNING_S = 10.0
"""Two machines that are off by this in opposite directions still accept each other's grants; see `GRANT_WAIT_S`."""
NEARLY_FULL = 0.8
_APPLY = "Run 'edge-relay streams apply' as NATS user admin."
_APPLY_REPORTS = f"{_APPLY} It reports what it can't change."


class StreamChecks:
    """The checks; each uses what the ones before it have read.

    Attributes:
        queues: Queues that are known from elsewhere, for a role that can't list the consumers.
    """

    def __init__(self, session: NatsSession) -> None:
        self._session = session
        self._streams: dict[str, StreamInfo] = {}
        self._skew_s: float | None = None
        self.queues: Callable[[], Sequence[tuple[str | None, str]]] = tuple

    async def jetstream(self) -> Finding:
        """JetStream is on and has a leader."""
        try:
            await self._read(subjects.JOBS)
        except JetStreamError as error:
            if error.code != STREAM_NOT_FOUND:
                return failed(
                    JETSTREAM, f"JetStream refuses: {error}", "Turn JetStream on for the account of our users."
                )
        except NoAnswer:
            if not any(probe.info.get("jetstream") for probe in self._session.greeted):
                text = "Add a 'jetstream' block with a 'store_dir' to the configuration of nats-server and restart it."
                return failed(JETSTREAM, "JetStream is turned off in nats-server", text)
            text = "Is a majority of the cluster's servers up? Search the logs of nats-server for a leader."
            return failed(JETSTREAM, "JetStream does not answer: it has no leader, or is not ready", text)
        return ok(JETSTREAM, "JetStream answers")

    async def streams(self) -> Finding:
        """All streams are there, with their settings."""
        missing, wrong, unusual, seen = [], [], [], 0
        for config in layout.stream_configs():
            name = config["name"]
            if not self._session.may(f"STREAM.INFO.{name}"):
                continue
            try:
                found = (await self._read(name))["config"]
            except JetStreamError as error:
                if error.code != STREAM_NOT_FOUND:
                    raise
                missing.append(name)
                continue
            seen += 1
            for option in layout.differences(config, found):
                text = f"{name}: {option} is {found.get(option)!r}, not {config.get(option)!r}"
                if layout.is_essential(name, option):
                    wrong.append(text)
                elif option not in layout.CHOSEN:
                    unusual.append(text)
        if missing:
            return failed(STREAMS, f"there is no stream {', '.join(missing)}", _APPLY)
        if wrong:
            return failed(STREAMS, "; ".join(wrong), _APPLY_REPORTS)
        if unusual:
            return warning(STREAMS, "; ".join(unusual), _APPLY_REPORTS)
        return ok(STREAMS, f"{seen} streams, with the settings that they need")

    async def replicas(self) -> Finding:
        """Streams of a cluster have copies, and all of them are up to date."""
        clustered = any(probe.info.get("cluster") for probe in self._session.greeted)
        return replicas_finding(self._streams, clustered=clustered)

    async def consumers(self) -> list[Finding]:
        """Each queue has its consumer, with its settings, and is not paused."""
        found = await self._consumer_infos()
        findings = [finding for info in found if (finding := consumer_fault(info)) is not None]
        return findings or [ok(CONSUMERS, f"{len(found)} queues have a consumer with the settings that it needs")]

    async def store(self) -> Finding:
        """There is room for further jobs."""
        full = []
        for name in self._streams.keys() - {subjects.LOGS}:  # relays make room there
            info = self._streams[name]
            limit = info["config"].get("max_bytes") or -1
            if limit > 0 and info["state"]["bytes"] > NEARLY_FULL * limit:
                full.append(f"{name} holds {_mib(info['state']['bytes'])} of {_mib(limit)}")
        account: AccountInfo = await account_info(self._session) if self._session.may("INFO") else {}
        limit = account.get("limits", {}).get("max_storage", -1)
        used = account.get("storage", 0)
        if limit > 0 and used > NEARLY_FULL * limit:
            full.append(f"the account holds {_mib(used)} of {_mib(limit)}")
        if full:
            text = (
                "A full store accepts no more jobs. Serve or purge queues, or raise the limit: of a stream by "
                "'nats stream edit --max-bytes', of nats-server by 'max_file'."
            )
            return warning(STORE, "; ".join(full), text)
        streams = sum(info["state"]["bytes"] for info in self._streams.values())
        return ok(STORE, f"the store holds {_mib(used or streams)}, and has room")

    async def clock(self) -> Finding:
        """The server's clock agrees with this machine's."""
        if self._skew_s is None or abs(self._skew_s) <= SKEW_WARNING_S:
            return ok(CLOCK, f"the clock of nats-server is within {SKEW_WARNING_S:g} s of this machine's")
        side = "ahead of" if self._skew_s > 0 else "behind"
        text = (
            "Synchronise all machines of the centre by NTP: relays whose clocks differ by more than "
            f"{GRANT_WAIT_S} s refuse each other's grants."
        )
        return warning(CLOCK, f"nats-server is {abs(self._skew_s):.0f} s {side} this machine", text)

    async def _read(self, stream: str) -> StreamInfo:
        asked_at = time.time()
        info = self._streams[stream] = await stream_info(self._session, stream)
        if reported := info.get("ts"):
            self._skew_s = datetime.fromisoformat(reported).timestamp() - (asked_at + time.time()) / 2
        return info

    async def _consumer_infos(self) -> list[ConsumerInfo]:
        if not self._session.may(f"CONSUMER.LIST.{subjects.JOBS}"):
            return await self._known_consumers()
        return (await list_consumers(self._session, subjects.JOBS))[0]

    async def _known_consumers(self) -> list[ConsumerInfo]:
        """Of the waiting jobs, and of the tasks of queues that are known from elsewhere."""
        waiting = await subjects_with_messages(self._session, subjects.JOBS, "edge.jobs.>")
        lines = {subjects.parse_job_subject(subject)[:3] for subject in waiting}
        lines |= {(team, queue, JobKind.TASK) for team, queue in self.queues()}
        names = sorted({subjects.consumer_name(*line) for line in lines})
        found = [await consumer_info(self._session, subjects.JOBS, name) for name in names]
        return [info for info in found if info is not None]  # the others are of queues that were never used


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
