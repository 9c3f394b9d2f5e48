"""The checks of NATS that the doctors of the centre have in common, from DNS to the consumers.

They run as the NATS users whose passwords the doctor has; each user reads only what its role may read.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from edge_broker import subjects
from edge_broker.connection.errors import JetStreamError
from edge_broker.doctor.check_ids import (
    CA_FILE,
    CLOCK,
    CONNECT,
    CONSUMERS,
    DNS,
    JETSTREAM,
    REPLICAS,
    STORE,
    STREAMS,
    TLS,
    VERSION,
    credentials,
    rights,
)
from edge_broker.doctor.reasons import reason
from edge_broker.doctor.server_checks import ServerChecks
from edge_broker.doctor.session import NatsSession
from edge_broker.doctor.stream_checks import StreamChecks
from edge_broker.doctor.wire import ProbeFailed
from edge_broker.jetstream.stored import last_message
from edge_broker.jetstream.stream_info import StreamInfo, stream_info, subjects_with_messages
from edge_service.findings import CHECK_LIMIT_S, Check, Finding, failed

_MANY_S = 20.0


class NatsDoctor:
    """The checks, and the data that other checks use. Use as an asynchronous context manager.

    Args:
        urls: Servers of one cluster.
        ca_file: As for `BrokerSettings`.
        passwords: Of the roles that the doctor logs in as; the first one is the component's own.
        setting: The name of the setting with the servers, for advice.
    """

    def __init__(
        self, urls: Sequence[str], ca_file: Path | None, passwords: Mapping[str, str], *, setting: str
    ) -> None:
        self._session = NatsSession(urls, ca_file, passwords, setting=setting)
        self._servers = ServerChecks(self._session)
        self._streams = StreamChecks(self._session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def know_queues(self, queues: Callable[[], Sequence[tuple[str | None, str]]]) -> None:
        """Check the consumers of these queues too, for a role that can't list the consumers."""
        self._streams.queues = queues

    def checks(self, *, needs: tuple[str, ...] = ()) -> Iterator[Check]:
        """From the outermost layer inwards.

        Args:
            needs: Checks that must pass before the doctor can log in as the first role.

        `CA_FILE` must be among the checks before these.
        """
        servers, streams = self._servers, self._streams
        own = next(iter(self._session.passwords))
        yield _check(DNS, servers.dns)
        yield _check(CONNECT, servers.connect, DNS)
        yield _check(VERSION, servers.version, CONNECT)
        yield _check(TLS, servers.tls, VERSION, CA_FILE)
        for role in self._session.passwords:
            first = needs if role == own else ()
            yield _check(credentials(role), partial(servers.credentials, role), TLS, *first)
            yield _check(rights(role), partial(servers.rights, role), credentials(role))
        yield _check(JETSTREAM, streams.jetstream, rights(own))
        yield _check(STREAMS, streams.streams, JETSTREAM)
        yield _check(REPLICAS, streams.replicas, STREAMS)
        yield _check(CONSUMERS, streams.consumers, STREAMS)
        yield _check(STORE, streams.store, STREAMS)
        yield _check(CLOCK, streams.clock, JETSTREAM)

    async def stream(self, name: str) -> StreamInfo:
        """What the server reports of a stream.

        Raises:
            Denied: None of the roles may read it.
        """
        return await stream_info(self._session, name)

    async def values(self, bucket: str) -> dict[str, bytes]:
        """The keys of a bucket that have a value.

        Raises:
            Denied: None of the roles may read it.
        """
        stream = subjects.kv_stream(bucket)
        prefix = subjects.kv_subject(bucket, "")
        found: dict[str, bytes] = {}
        for subject in await subjects_with_messages(self._session, stream, subjects.kv_subject(bucket, ">")):
            message = await last_message(self._session, stream, subject)
            if message is not None and message.data:  # else it was removed since it was listed
                found[subject.removeprefix(prefix)] = message.data
        return found


def _check(check: str, run: Callable[[], Awaitable[Finding | list[Finding]]], *needs: str) -> Check:
    """A check that reports a failure if NATS becomes unreachable or has no leader."""

    async def checked() -> Finding | list[Finding]:
        try:
            return await run()
        except (ProbeFailed, JetStreamError, OSError) as error:
            text = "Are all servers of NATS up, and does each stream have a leader? Read their logs, then try again."
            return failed(check, f"NATS does not answer as it should: {reason(error)}", text)

    return Check(check, checked, needs, _MANY_S if check in (CONSUMERS, STORE) else CHECK_LIMIT_S)
