"""The rules of each queue: how long a worker may be unreachable, what it does then, and how long a job may wait."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from edge_bridge.settings import SECTION, Conf, SettingsError, text
from edge_schemas.admin.desired import DesiredQueue, strictest
from edge_schemas.wire.ids import QueueName
from edge_schemas.wire.jobs import JobKind
from edge_schemas.wire.offline import MAX_TOLERANCE_S, MIN_TOLERANCE_S, OfflinePolicy, OnSilence


@dataclass(frozen=True, slots=True)
class QueueRules:
    """The rules of one queue.

    Attributes:
        offline: Sent with each job.
        timeout_s: How long a job may wait; None means without limit.
        kinds: The kinds of jobs that it accepts; None for all.
        max_running: How many jobs of an executor may be published or run at once; None for no limit.
        paused: Why no job of it is granted, if an operator has paused it.
    """

    offline: OfflinePolicy
    timeout_s: float | None = None
    kinds: tuple[JobKind, ...] | None = None
    max_running: int | None = None
    paused: str | None = None

    def accepts(self, kind: JobKind) -> bool:
        """Whether the queue accepts jobs of this kind."""
        return self.kinds is None or kind in self.kinds


class Queues:
    """The rules of all queues: those of the settings, changed by what operators have set at run time.

    May be read in any thread. Until an executor has read what operators have set, those of the settings count.

    Attributes:
        default: The settings' rules for each queue without rules of its own.
        by_name: Their rules for the others.
    """

    def __init__(self, default: QueueRules, by_name: Mapping[str, QueueRules] | None = None) -> None:
        self.default = default
        self.by_name = dict(by_name or {})
        self._desired: dict[str, DesiredQueue] = {}

    def rules(self, queue: str) -> QueueRules:
        """The rules of a queue."""
        rules, desired = self.by_name.get(queue, self.default), self._desired.get(queue)
        return rules if desired is None else _with_desired(rules, desired, datetime.now(UTC))

    def set_desired(self, queue: str, desired: DesiredQueue | None) -> None:
        """Operators have set this for a queue; None if nothing."""
        if desired is None:
            self._desired.pop(queue, None)
        else:
            self._desired[queue] = desired

    @property
    def any_times_out(self) -> bool:
        """Whether there is a queue whose jobs may wait for a limited time only."""
        all_rules = (rules.timeout_s for rules in (self.default, *self.by_name.values()))
        desired = (one.timeout_s for one in list(self._desired.values()))
        return any(timeout is not None for timeout in (*all_rules, *desired))


def _with_desired(rules: QueueRules, desired: DesiredQueue, now: datetime) -> QueueRules:
    order = strictest((desired.order,), now)
    tolerance_s = rules.offline.tolerance_s if desired.tolerance_s is None else desired.tolerance_s
    return QueueRules(
        offline=OfflinePolicy(tolerance_s=tolerance_s, on_silence=rules.offline.on_silence),
        timeout_s=rules.timeout_s if desired.timeout_s is None else desired.timeout_s,
        kinds=desired.kinds,
        max_running=desired.max_running,
        paused=None if order is None else f"{order.by} has paused the queue: {order.reason}",
    )


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
