"""What can travel: jobs that arrive as they were made, and texts that Airflow's database can store. Pure."""

import unicodedata

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from edge_schemas.wire.jobs import Job

MAX_TEXT_CHARS = 2000
"""The column of a connection test's result holds this much."""
_KEPT = "\n\t"


def unsendable_because(job: Job) -> str | None:
    """Why a relay or worker could not read this job as it is; None if they can.

    JSON has no lone surrogates, which Python makes of a file name that is no UTF-8, and a limited depth. Where
    the job is made, only its own task or callback fails.
    """
    try:
        arrives = Job.model_validate_json(job.model_dump_json(exclude_none=True))
    except (PydanticSerializationError, ValidationError, ValueError, RecursionError) as error:
        return f"it holds a value that JSON can't represent ({type(error).__name__})"
    return None if arrives == job else "it holds a value that JSON changes"


def storable(text: str) -> str:
    """A text that any database and any log can hold: without control characters and lone surrogates, and not too long.

    Reasons come from workers. PostgreSQL refuses a NUL, and the scheduler that stores the text would end.
    """
    return "".join(c if c in _KEPT or not _is_refused(c) else "\N{REPLACEMENT CHARACTER}" for c in text)[
        :MAX_TEXT_CHARS
    ]


def _is_refused(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cs"}
