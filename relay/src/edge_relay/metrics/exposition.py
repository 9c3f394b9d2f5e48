"""Prometheus' text format, written in portions: polls must not wait for it with thousands of workers or queues.

The library's own writer does not pause, and checks each name again for each sample: four times the work.
"""

import asyncio
from collections.abc import Iterator
from itertools import islice

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.utils import floatToGoString

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
LINES_AT_ONCE = 1000


async def render(registry: CollectorRegistry) -> bytes:
    """Everything in the registry, in the text format 0.0.4."""
    parts = []
    for metric in registry.collect():
        lines = _lines(metric)
        while portion := "".join(islice(lines, LINES_AT_ONCE)):
            parts.append(portion)
            await asyncio.sleep(0)
    return "".join(parts).encode()


def _lines(metric: Metric) -> Iterator[str]:
    # In this format a counter's suffix is part of its name.
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    about = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {name} {about}\n# TYPE {name} {metric.type}\n"
    for sample in metric.samples:
        labels = ",".join([f'{label}="{_escape(value)}"' for label, value in sample.labels.items()])
        value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]  # the library has no annotations there
        yield f"{sample.name}{{{labels}}} {value}\n" if labels else f"{sample.name} {value}\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
