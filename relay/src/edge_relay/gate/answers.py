"""The gate's answers: a small one is read and checked as a whole, a large one is passed on while it arrives."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass

import aiohttp
import structlog

from edge_schemas.gate.auth import SIGNATURE_HEADER, AnswerCheck
from edge_service.body_progress import BodyStalled, Progress

log = structlog.get_logger(__name__)

STREAMED_FROM_BYTES = 64 * 1024
"""A smaller body is read as a whole: until it is checked, another keeper can still be called instead."""
WINDOW_BYTES = 256 * 1024
"""What a streamed body holds in memory: the piece on its way to the worker, the one before it, and aiohttp's buffer."""


class AnswerBroken(ConnectionResetError):
    """The rest of an answer did not arrive, or the gate did not make it. The worker must not get a whole answer."""


class StreamedBody:
    """A body of the gate that is passed on before all of it is known. Read it once.

    The gate's signature covers the whole body, so it is checked at the end. Until then the last piece is held back: a
    worker that has received as many bytes as were announced has received what the gate has signed.

    Attributes:
        length: In bytes, as announced.
        on_broken: Called if not all of it arrives as the gate has signed it.
    """

    def __init__(self, reply: aiohttp.ClientResponse, length: int, check: AnswerCheck) -> None:
        self._reply = reply
        self._check = check
        self.length = length
        self.on_broken: Callable[[], None] = lambda: None

    async def pieces(self, progress: Progress) -> AsyncGenerator[bytes, None]:
        """The pieces, the last one only after the signature was checked; the caller reports to `progress`.

        Raises:
            AnswerBroken: The connection was cut, the body stood still, or the signature is not the gate's.
        """
        held = b""
        try:
            while piece := await progress.step(self._reply.content.readany()):
                self._check.add(piece)
                if held:
                    yield held
                held = piece
        except (aiohttp.ClientError, OSError, BodyStalled) as error:
            raise self._broken(f"{type(error).__name__}: {error}") from error
        if not self._check.matches(self._reply.headers.get(SIGNATURE_HEADER, "")):
            raise self._broken("it is not signed with our key")
        yield held

    def _broken(self, why: str) -> AnswerBroken:
        self.on_broken()
        log.warning("gate_answer_broken", gate=str(self._reply.url.origin()), error=why)
        return AnswerBroken(why)


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """The part of the gate's answer that is returned to a worker.

    Attributes:
        body: Of a small answer, checked.
        streamed: The body of a large answer, in place of `body`.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    streamed: StreamedBody | None = None
