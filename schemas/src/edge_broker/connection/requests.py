"""Requests over one connection: a time-out for each, and an end at once when the connection is lost.

nats-py's own requests wait for their whole time-out after the server has died. See docs/adr/0005.
"""

import asyncio
from collections.abc import Mapping

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from edge_broker.connection.errors import NO_RESPONDERS, BrokerUnavailable, PayloadTooLarge

REQUEST_TIMEOUT_S = 5.0
HEADER_RESERVE_BYTES = 512
"""The server counts headers too and closes the connection of a client that exceeds its limit."""


class Requests:
    """The requests that wait for an answer, and the inbox of the current connection."""

    def __init__(self) -> None:
        self._pending: dict[str, asyncio.Future[Msg]] = {}
        self._inbox = ""
        self._last_token = 0

    async def open(self, client: Client) -> None:
        """Subscribe to an inbox on a new connection.

        Raises:
            nats.errors.Error: The connection is closed again.
        """
        self._inbox = client.new_inbox()
        await client.subscribe(f"{self._inbox}.*", cb=self._on_answer)

    async def request(
        self, client: Client, subject: str, payload: bytes, headers: Mapping[str, str] | None, timeout_s: float
    ) -> Msg:
        """Send a message and wait for one answer.

        Raises:
            BrokerUnavailable: There was none.
            PayloadTooLarge: The message was not sent.
        """
        size = len(payload) + sum(len(k) + len(v) + 4 for k, v in (headers or {}).items()) + HEADER_RESERVE_BYTES
        if size > client.max_payload:
            raise PayloadTooLarge(size, client.max_payload)
        self._last_token += 1
        token = str(self._last_token)
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._pending[token] = answer
        try:
            async with asyncio.timeout(timeout_s):
                await client.publish(
                    subject, payload, reply=f"{self._inbox}.{token}", headers=None if headers is None else dict(headers)
                )
                message = await answer
        except TimeoutError:
            hint = "no leader, or the user lacks the right (then the log says so)"
            raise BrokerUnavailable(f"no answer on {subject} within {timeout_s:g} s: {hint}") from None
        except (nats.errors.Error, ConnectionError) as error:
            raise BrokerUnavailable(f"NATS did not accept a request on {subject}: {error!r}") from error
        finally:
            del self._pending[token]
        if message.headers and message.headers.get("Status") == NO_RESPONDERS:
            raise BrokerUnavailable(f"nothing answers on {subject}: no leader, or the stream does not exist")
        return message

    def fail_all(self) -> None:
        """End every waiting request: its connection is lost."""
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(BrokerUnavailable("the connection to NATS was lost before the answer came"))

    async def _on_answer(self, message: Msg) -> None:
        answer = self._pending.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)
