"""What the code names publicly stands in the glossary or on a page under `docs/reference/`."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import edge_schemas
import metrics_page
from edge_bridge.settings import SECTION
from edge_relay.settings import Settings as RelaySettings
from edge_schemas.life.events import EVENTS
from edge_schemas.life.model import JobState
from edge_schemas.wire.errors import ErrorCode
from edge_worker.settings import PREFIX
from log_events_source import log_calls

DOCS = Path(__file__).parents[3] / "docs"


def models() -> Iterator[type[BaseModel]]:
    """The public models of `edge_schemas`, without the base classes, which have no fields."""
    for found in pkgutil.walk_packages(edge_schemas.__path__, "edge_schemas."):
        for name, value in vars(importlib.import_module(found.name)).items():
            is_own = isinstance(value, type) and value.__module__ == found.name and not name.startswith("_")
            if is_own and issubclass(value, BaseModel) and value.model_fields:
                yield value


def metrics() -> Iterator[str]:
    """What we count ourselves; `process_*` is the Prometheus client's."""
    for exporter in metrics_page.EXPORTERS:
        for family in exporter.registry().collect():
            if family.name.startswith("edge_"):
                yield f"{family.name}_total" if family.type == "counter" else family.name


def words(class_name: str) -> str:
    """`GiveUp` as "give up"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", class_name).lower()


def missing(names: set[str], *pages: str) -> list[str]:
    """Those that stand on none of the pages; a name in JSON counts as one in Markdown."""
    assert names
    text = "\n".join((DOCS / page).read_text(encoding="utf-8") for page in pages).replace('"', "`")
    return sorted(name for name in names if name not in text)


def test_every_model_is_in_the_glossary_or_the_api() -> None:
    names = {f"`{model.__name__}`" for model in models()}
    assert missing(names, "glossary.md", "reference/openapi.json") == []


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("job-life.md", {f" {state} " for state in JobState}),
        ("job-life.md", {f"\n| {words(event.__name__)} |" for event in EVENTS}),
        ("log-events.md", {f"`{call.name}`" for call in log_calls()}),
        ("metrics.md", {f"`{name}`" for name in metrics()}),
        ("problem-codes.md", {f"`{code}`" for code in ErrorCode}),
        ("settings.md", {f"`{RelaySettings.model_config['env_prefix']}", f"`{PREFIX}", f"`[{SECTION}]`"}),
    ],
    ids=["states", "record-events", "log-events", "metrics", "problem-codes", "setting-prefixes"],
)
def test_every_name_is_on_its_page(page: str, names: set[str]) -> None:
    assert missing(names, f"reference/{page}") == []
