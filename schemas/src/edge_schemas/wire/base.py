"""The two kinds of wire model: what a relay accepts strictly, what a client reads leniently.

Validation errors never repeat what was sent: they end up in logs, and it may be a secret.
"""

from pydantic import AwareDatetime, BaseModel, ConfigDict

Instant = AwareDatetime
"""A moment on the wire: RFC 3339 with an offset, UTC when we write it."""


LARGEST_COUNT = 2**53 - 1
"""What every reader of JSON keeps exactly. Larger numbers are refused: many readers refuse a whole text with one."""


class Inbound(BaseModel):
    """A body that the relay receives. An unknown field is an error, so that a typing mistake is always reported."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Outbound(BaseModel):
    """A body that a client receives, or a value kept in JetStream.

    Fields this version does not know are ignored, so that an older reader works with a newer writer.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
