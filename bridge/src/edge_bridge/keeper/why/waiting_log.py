"""The lines about a waiting job in `EDGE_LOGS`: in the log of its try, apart from the file that a holder uploads.

So a line and a holder's bytes never meet: whoever writes when, no byte is lost, moved or repeated. Each line names its
number and its main cause, and is stored only behind the line before it: of several keepers, one writes.
"""

from dataclasses import dataclass
from datetime import datetime

import orjson

from edge_broker.connection.broker import Broker
from edge_broker.jetstream.append import Appended, append
from edge_broker.jetstream.stored import last_message
from edge_broker.subjects import LOGS, OFFSET_HEADER, WAITING_HEADER, waiting_log_subject
from edge_schemas.wire.jobs import TaskIdentity

LOGGER = "edge_relay"


@dataclass(frozen=True, slots=True)
class Written:
    """The lines of a job so far.

    Attributes:
        number: How many there are.
        code: The main cause of the last one; empty if there is none.
        at: When it was stored.
        end: Of the file that they are.
        sequence: Of the last one in the stream, 0 if there is none.
    """

    number: int = 0
    code: str = ""
    at: datetime | None = None
    end: int = 0
    sequence: int = 0


class WaitingLog:
    """Reads and writes the lines."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def read(self, task: TaskIdentity, job: str) -> Written:
        """The lines of a job so far, through the stream leader.

        Raises:
            BrokerUnavailable: No answer.
        """
        message = await last_message(self._broker, LOGS, waiting_log_subject(task.ti_id, task.try_number, job))
        if message is None:
            return Written()
        number, _, code = message.headers[WAITING_HEADER].partition(" ")
        end = int(message.headers[OFFSET_HEADER]) + len(message.data)
        return Written(int(number), code, message.stored_at, end, message.sequence)

    async def write(
        self, task: TaskIdentity, job: str, before: Written, *, code: str, text: str, now: datetime
    ) -> Written | None:
        """Store one line behind those that were read; None if another keeper was faster.

        Raises:
            JetStreamError: There is no room.
            BrokerUnavailable: The outcome is unknown: read again.
        """
        line = orjson.dumps({"timestamp": now.isoformat(), "level": "warning", "event": text, "logger": LOGGER}) + b"\n"
        headers = {OFFSET_HEADER: str(before.end), WAITING_HEADER: f"{before.number + 1} {code}"}
        subject = waiting_log_subject(task.ti_id, task.try_number, job)
        stored = await append(self._broker, subject, line, after=before.sequence, headers=headers)
        if not isinstance(stored, Appended):
            return None
        return Written(before.number + 1, code, now, before.end + len(line), stored.sequence)
