"""The rules of each queue: how long a worker may be unreachable, what it does then, and how long a job may wait."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from edge_bridge.settings import SECTION, Conf, SettingsError, text
from edge_schemas.wire.ids import QueueName
from edge_schemas.wire.offline import MAX_TOLERANCE_S, MIN_TOLERANCE_S, OfflinePolicy, OnSilence


@dataclass(frozen=True, slots=True)
class QueueRules:
    """The rules of one queue.

    Attributes:
        offline: Sent with each job.
        timeout_s: How long a job may wait; None means without limit.
    """

    offline: OfflinePolicy
    timeout_s: int | None = None


@dataclass(frozen=True, slots=True)
class Queues:
    """The rules of all queues.

    Attributes:
        default: The rules of each queue without rules of its own.
    """

    default: QueueRules
    by_name: Mapping[str, QueueRules] = field(default_factory=dict)

    def rules(self, queue: str) -> QueueRules:
        """The rules of a queue."""
        return self.by_name.get(queue, self.default)

    @property
    def any_times_out(self) -> bool:
        """Whether there is a queue whose jobs may wait for a limited time only."""
        return any(rules.timeout_s is not None for rules in (self.default, *self.by_name.values()))


class _Options(BaseModel):
    """The options as written, for all queues or for one. A `queue_timeout` of 0 or nothing means "no limit"."""

    model_config = ConfigDict(extra="forbid")

    offline_tolerance: int = Field(ge=MIN_TOLERANCE_S, le=MAX_TOLERANCE_S)
    on_silence: OnSilence
    queue_timeout: int = Field(ge=0)

    @field_validator("queue_timeout", mode="before")
    @classmethod
    def _none_is_zero(cls, value: object) -> object:
        return 0 if value is None or value == "" else value


_QUEUES = TypeAdapter(dict[QueueName, dict[str, object]])


def read_queues(conf: Conf) -> Queues:
    """The rules of all queues.

    Raises:
        SettingsError: A value is wrong; the text names its option and queue.
    """
    common = {option: text(conf, option) for option in _Options.model_fields}
    default = _rules(common, where=f"[{SECTION}] ")
    own = _parse(text(conf, "queues"))
    return Queues(default, {q: _rules(common | o, where=f"[{SECTION}] queues, queue {q!r}: ") for q, o in own.items()})


def _parse(value: str) -> dict[str, dict[str, object]]:
    if not value:
        return {}
    example = '{"plant": {"offline_tolerance": 86400}}'
    try:
        return _QUEUES.validate_python(json.loads(value))
    except json.JSONDecodeError as error:
        raise SettingsError(f"[{SECTION}] queues is no JSON ({error}): write an object such as {example}") from None
    except ValidationError as error:
        raise SettingsError(
            f"[{SECTION}] queues must be an object by queue name, such as {example}: {_explain(error)}"
        ) from None


def _rules(options: Mapping[str, object], where: str) -> QueueRules:
    try:
        read = _Options.model_validate(options)
    except ValidationError as error:
        raise SettingsError(where + _explain(error)) from None
    policy = OfflinePolicy(tolerance_s=read.offline_tolerance, on_silence=read.on_silence)
    return QueueRules(policy, read.queue_timeout or None)


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, e['loc']))} is {e['input']!r}: {e['msg']}" if e["loc"] else e["msg"]
        for e in error.errors(include_url=False)
    )
