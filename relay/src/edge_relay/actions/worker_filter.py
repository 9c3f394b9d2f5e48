"""Which workers a filter selects. Shared by actions and lists."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_schemas.admin.actions import WorkerFilter
from edge_schemas.wire.workers import WorkerState


@dataclass(frozen=True, slots=True)
class WorkerTraits:
    """What a filter asks about a worker.

    Attributes:
        queues: Those that it serves now.
    """

    worker: str
    site: str
    queues: tuple[str, ...]
    state: WorkerState
    host: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def matches(traits: WorkerTraits, where: WorkerFilter) -> bool:
    """Whether a worker matches all that is given."""
    return (
        where.site in (None, traits.site)
        and (where.queue is None or where.queue in traits.queues)
        and where.state in (None, traits.state)
        and (where.label is None or _has_label(traits.labels, where.label))
        and (where.text is None or _has_text(traits, where.text.casefold()))
    )


def _has_label(labels: Mapping[str, str], wanted: str) -> bool:
    key, has_value, value = wanted.partition("=")
    return key in labels and (not has_value or labels[key] == value)


def _has_text(traits: WorkerTraits, text: str) -> bool:
    labels = (f"{key}={value}" for key, value in traits.labels.items())
    return any(text in part.casefold() for part in (traits.worker, traits.site, traits.host, *labels))
