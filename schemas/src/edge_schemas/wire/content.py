"""Bytes with a content type inside a JSON body: what a producer submits, and what a consumer answers."""

import binascii
from base64 import b64decode, b64encode
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError, to_json

from edge_schemas.wire.base import Inbound, Outbound

MAX_CONTENT_BYTES = 256 * 1024
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"


def _check_base64(data: str) -> str:
    try:
        b64decode(data, validate=True)
    except binascii.Error:
        raise PydanticCustomError("base64", "must be base64 (RFC 4648, with padding)") from None
    return data


class Content(Outbound):
    """Up to 256 KiB, as `text` or as `data`. `body` has the bytes of both.

    Attributes:
        content_type: A media type; nothing interprets it but producer and consumer.
        text: Text, as it is.
        data: Any bytes, in base64.
    """

    content_type: str = Field(default=BYTES, max_length=255, pattern=r"^[!-~]+/[ -~]+$")
    text: str | None = Field(default=None, max_length=MAX_CONTENT_BYTES)
    data: Annotated[str, AfterValidator(_check_base64)] | None = Field(
        default=None, max_length=4 * (MAX_CONTENT_BYTES // 3 + 1)
    )

    @classmethod
    def of(cls, body: bytes, content_type: str = BYTES) -> Self:
        """The content with these bytes."""
        return cls(content_type=content_type, data=b64encode(body).decode())

    @classmethod
    def of_text(cls, text: str, content_type: str = TEXT) -> Self:
        """The content with this text: as `data` if that is shorter, as with many characters that JSON escapes.

        Raises:
            UnicodeEncodeError: It has lone surrogates.
        """
        body = text.encode()
        if len(to_json(text)) > 4 * (len(body) // 3 + 1) + 2:
            return cls.of(body, content_type)
        return cls(content_type=content_type, text=text)

    @property
    def body(self) -> bytes:
        """The bytes; those of a text in UTF-8."""
        return self.text.encode() if self.text is not None else b64decode(self.data or "")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.text is None) == (self.data is None):
            raise PydanticCustomError("content", "must have either text or data")
        if len(self.body) > MAX_CONTENT_BYTES:
            raise PydanticCustomError("content_too_large", "must not be larger than 256 KiB")
        return self


class SentContent(Content, Inbound):
    """See `Content`."""
