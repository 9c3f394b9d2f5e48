"""Reads the answer to a poll part by part: a grant that this version can't read must not hide the other parts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from edge_schemas.wire.ids import JobId
from edge_schemas.wire.polls import Grant, PollAnswer, StopDirective
from edge_worker.log import EventLog
from edge_worker.relay.call_result import Reply, parse

_JOB_ID: TypeAdapter[str] = TypeAdapter(JobId)
_LISTS: dict[str, type[Grant] | type[StopDirective]] = {"grants": Grant, "stop": StopDirective}

log = EventLog("edge_worker.relay.poll_answer")


@dataclass(frozen=True)
class UnreadableGrant:
    """A grant whose job can't be read; the receipt is enough to release it."""

    job: str
    receipt: str


@dataclass(frozen=True)
class ReadAnswer:
    """What could be read of an answer."""

    answer: PollAnswer
    unreadable: tuple[UnreadableGrant, ...] = ()


def read_answer(reply: Reply) -> ReadAnswer:
    """The answer to a poll.

    Raises:
        NoAnswer: The body is no JSON object.
    """
    try:
        return ReadAnswer(PollAnswer.model_validate_json(reply.body))
    except ValidationError:
        raw = _object(reply)
    unreadable = []
    for name, model in _LISTS.items():
        good, bad = _split(model, raw.get(name))
        raw[name] = good
        if bad:
            log.error("answer_part_unreadable", part=name, number=len(bad))
        if name == "grants":
            unreadable = [grant for one in bad if (grant := _releasable(one)) is not None]
    return ReadAnswer(_without_bad_fields(raw), tuple(unreadable))


def _object(reply: Reply) -> dict[str, object]:
    try:
        raw = json.loads(reply.body)
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        parse(PollAnswer, reply)  # raises
    return dict(raw)


def _split(model: type[Grant] | type[StopDirective], items: object) -> tuple[list[object], list[object]]:
    good: list[object] = []
    bad: list[object] = []
    for item in items if isinstance(items, list) else []:
        try:
            good.append(model.model_validate_json(json.dumps(item)))
        except (ValidationError, ValueError, RecursionError):
            bad.append(item)
    return good, bad


def _without_bad_fields(raw: Mapping[str, object]) -> PollAnswer:
    """The parts that can be read; a setting or a notice that can't be read is sent again with the next answer."""
    bad: set[str] = set()
    try:
        return PollAnswer.model_validate(raw)
    except ValidationError as error:
        bad = {str(fault["loc"][0]) for fault in error.errors(include_input=False)}
    log.error("answer_part_unreadable", part=", ".join(sorted(bad)), number=len(bad))
    return PollAnswer.model_validate({name: value for name, value in raw.items() if name not in bad})


def _releasable(raw: object) -> UnreadableGrant | None:
    job = raw.get("job") if isinstance(raw, dict) else None
    receipt = raw.get("receipt") if isinstance(raw, dict) else None
    if not isinstance(job, dict) or not isinstance(receipt, str):
        return None
    try:
        return UnreadableGrant(_JOB_ID.validate_python(job.get("id")), receipt)
    except ValidationError:
        return None
