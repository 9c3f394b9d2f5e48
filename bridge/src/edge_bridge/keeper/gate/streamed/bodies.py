"""A body that is passed on while it arrives, and the signature behind it."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import aiohttp
import structlog

from edge_schemas.gate.auth import (
    END_SIGNATURE_BYTES,
    SIGNATURE_HEADER,
    SIGNED_AT_END,
    SIGNED_AT_END_HEADER,
    AnswerSignature,
    sign_head,
)
from edge_service.body_memory import Memory
from edge_service.body_progress import BodyStalled, Pieces, Progress

log = structlog.get_logger(__name__)


class AnswerBroken(ConnectionResetError):
    """The rest of the api-server's answer did not arrive. The relay must not get a whole answer."""


class ArrivingBody:
    """A body of the api-server that is passed on before all of it is known. Read it once.

    Args:
        reply: The beginning of the answer.
        length: Of the body, in bytes.
        memory: Has counted the whole body. Until it is read, the api-server holds what the keeper does not.
    """

    def __init__(self, reply: aiohttp.ClientResponse, length: int, memory: Memory) -> None:
        self._reply = reply
        self._memory = memory
        self.length = length

    async def pieces(self, progress: Progress) -> AsyncGenerator[bytes, None]:
        """The pieces; the caller reports to `progress`.

        Raises:
            AnswerBroken: The connection was cut, or the body stood still.
        """
        try:
            while piece := await progress.step(self._reply.content.readany()):
                yield piece
                self._memory.remove(len(piece))
        except (aiohttp.ClientError, OSError, BodyStalled) as error:
            log.warning("execution_answer_broken", error=f"{type(error).__name__}: {error}")
            raise AnswerBroken(str(error)) from error


class SignedBody:
    """A body with its signature behind it. Read it once.

    Args:
        body: What is signed.
        signature: Of the answer; no part of the body was added yet.
    """

    def __init__(self, body: Pieces, signature: AnswerSignature) -> None:
        self._body = body
        self._signature = signature
        self.length = body.length + END_SIGNATURE_BYTES

    async def pieces(self, progress: Progress) -> AsyncGenerator[bytes, None]:
        """The pieces of the body, then the signature.

        Raises:
            AnswerBroken: See `ArrivingBody.pieces`. The signature is not returned then.
        """
        async with aclosing(self._body.pieces(progress)) as pieces:
            async for piece in pieces:
                self._signature.add(piece)
                yield piece
        yield self._signature.value.encode()


def signed_at_end(key: bytes, nonce: str, status: int, body: Pieces) -> tuple[Mapping[str, str], SignedBody]:
    """The headers with which an answer begins before its body is known, and the body that is sent."""
    head = {SIGNATURE_HEADER: sign_head(key, nonce, status, body.length), SIGNED_AT_END_HEADER: SIGNED_AT_END}
    return head, SignedBody(body, AnswerSignature(key, nonce, status))
