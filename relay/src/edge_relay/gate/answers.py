"""The gate's answers: a small one is read and checked as a whole, a large one is passed on while it arrives."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass

import aiohttp
import structlog

from edge_schemas.gate.auth import (
    END_SIGNATURE_BYTES,
    SIGNATURE_HEADER,
    SIGNED_AT_END,
    SIGNED_AT_END_HEADER,
    AnswerSignature,
    check_head,
)
from edge_schemas.gate.limits import CallLimits
from edge_service.body_progress import BodyStalled, BodyTooLarge, Progress

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

    Args:
        reply: The beginning of the answer.
        length: Of the body, in bytes, without the signature behind it.
        signature: Made from the body.

    Attributes:
        length: As announced to the worker.
        on_broken: Called if not all of it arrives as the gate has signed it.
    """

    def __init__(self, reply: aiohttp.ClientResponse, length: int, signature: AnswerSignature) -> None:
        self._reply = reply
        self._signature = signature
        self.length = length
        self.on_broken: Callable[[], None] = lambda: None

    async def pieces(self, progress: Progress) -> AsyncGenerator[bytes, None]:
        """The pieces, the last one only after the signature was checked; the caller reports to `progress`.

        Raises:
            AnswerBroken: The connection was cut, the body stood still, or the signature is not the gate's.
        """
        held, behind, left = b"", b"", self.length
        try:
            while arrived := await progress.step(self._reply.content.readany()):
                piece, behind = arrived[:left], behind + arrived[left:]
                left -= len(piece)
                if not piece:
                    continue
                self._signature.add(piece)
                if held:
                    yield held
                held = piece
        except (aiohttp.ClientError, OSError, BodyStalled) as error:
            raise self._broken(f"{type(error).__name__}: {error}") from error
        if not self._signature.matches(_signature(self._reply, behind)):
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


def streamed_body(reply: aiohttp.ClientResponse, key: bytes, nonce: str, limits: CallLimits) -> StreamedBody | None:
    """The body of an answer that is passed on while it arrives; None for one that is read as a whole.

    Without a length, a proxy could make a whole answer of one that was cut off. An answer without a signature is not
    the gate's: the next keeper is called.

    Raises:
        AnswerBroken: The gate did not make the head of this answer.
        BodyTooLarge: It is longer than the limit.
    """
    length, header = reply.content_length, reply.headers.get(SIGNATURE_HEADER)
    if reply.method == "HEAD" or length is None or header is None:
        return None
    if _is_signed_at_end(reply):
        length -= END_SIGNATURE_BYTES
        if not check_head(key, nonce, reply.status, length, header):
            raise AnswerBroken(f"an answer with status {reply.status} whose head is not signed with our key")
    if length > limits.max_call_bytes:
        raise BodyTooLarge
    if length <= STREAMED_FROM_BYTES:
        return None
    return StreamedBody(reply, length, AnswerSignature(key, nonce, reply.status))


def split_signature(reply: aiohttp.ClientResponse, content: bytes) -> tuple[bytes, str]:
    """The body and the signature of an answer that was read as a whole."""
    if not _is_signed_at_end(reply):
        return content, _signature(reply, b"")
    return content[:-END_SIGNATURE_BYTES], _signature(reply, content[-END_SIGNATURE_BYTES:])


def _is_signed_at_end(reply: aiohttp.ClientResponse) -> bool:
    return reply.headers.get(SIGNED_AT_END_HEADER) == SIGNED_AT_END


def _signature(reply: aiohttp.ClientResponse, behind: bytes) -> str:
    """The signature of a body: in the head, or behind the body."""
    return behind.decode("latin-1") if _is_signed_at_end(reply) else reply.headers.get(SIGNATURE_HEADER, "")
