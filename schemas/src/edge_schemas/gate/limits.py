"""The limits of a call to the Execution API: the same numbers at each hop, each hop with settings of its own.

Airflow's api-server accepts no path and query that are longer together than the default here, and a body of any size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edge_schemas.gate.execution_paths import path_bytes
from edge_schemas.wire.errors import EdgeError, ErrorCode

DEFAULT_MAX_CALL_BYTES = 80 * 1024 * 1024
"""An XCom of 64 MiB, with room for its encoding in JSON."""
LEAST_MAX_CALL_BYTES = 1024 * 1024
DEFAULT_MAX_PATH_BYTES = 64 * 1024
LEAST_MAX_PATH_BYTES = 8 * 1024
_LINE_EXTRA_BYTES = 8 * 1024
"""For the method and the part of the path before that of the Execution API."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The limits of one hop.

    Attributes:
        max_call_bytes: Of the body of a call, and of the body of its answer.
        max_path_bytes: Of path and query together; see `path_bytes`.
        call_setting: The setting of `max_call_bytes` at this hop, for messages.
        path_setting: The setting of `max_path_bytes` at this hop, for messages.
    """

    max_call_bytes: int = DEFAULT_MAX_CALL_BYTES
    max_path_bytes: int = DEFAULT_MAX_PATH_BYTES
    call_setting: str = "max_call_bytes"
    path_setting: str = "max_path_bytes"

    @property
    def max_line_bytes(self) -> int:
        """The limit for HTTP servers of a request line: above any line whose path and query are within the limit.

        A path in base64url is a third longer than its text.
        """
        return 2 * self.max_path_bytes + _LINE_EXTRA_BYTES

    def check_path(self, segments: Sequence[str], query: str) -> None:
        """Refuse a path and query that are too long.

        Raises:
            EdgeError: `path_too_long`.
        """
        if (size := path_bytes(segments, query)) > self.max_path_bytes:
            raise EdgeError(
                ErrorCode.PATH_TOO_LONG,
                f"path and query have {size} bytes, more than {self.path_setting} = {self.max_path_bytes}",
            )

    def body_too_large(self) -> EdgeError:
        """The refusal of a call with a body above the limit."""
        return self._too_large("the body")

    def answer_too_large(self) -> EdgeError:
        """The refusal of a call whose answer is above the limit."""
        return self._too_large("the Execution API's answer")

    def _too_large(self, what: str) -> EdgeError:
        text = f"{what} has more bytes than {self.call_setting} = {self.max_call_bytes}"
        return EdgeError(ErrorCode.PAYLOAD_TOO_LARGE, text)


DEFAULT_LIMITS = CallLimits()
