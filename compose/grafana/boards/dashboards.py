"""A complete dashboard: variables, links to the other dashboards, and rows of panels with their positions."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana.boards.panels import DATASOURCE, Json, Link, Panel

TAG = "edge-relay"
FLEET, QUEUES, RELAY, WORKER = ("edge-relay-fleet", "edge-relay-queues", "edge-relay-internals", "edge-relay-worker")

_KEEP = "${datasource:queryparam}&${airflow:queryparam}&${__url_time_range}"
WORKER_CELL = Link("This worker", f"/d/{WORKER}?var-worker=${{__value.raw}}&{_KEEP}")
WORKER_SERIES = Link("This worker", f"/d/{WORKER}?var-worker=${{__field.labels.worker}}&{_KEEP}")
SITE_CELL = Link("This site", f"/d/{FLEET}?var-site=${{__value.raw}}&{_KEEP}")
SITE_SERIES = Link("This site", f"/d/{FLEET}?var-site=${{__field.labels.site}}&{_KEEP}")
QUEUE_CELL = Link("This queue", f"/d/{QUEUES}?var-queue=${{__value.raw}}&{_KEEP}")
QUEUE_SERIES = Link("This queue", f"/d/{QUEUES}?var-queue=${{__field.labels.queue}}&{_KEEP}")
RELAY_CELL = Link("Relay internals", f"/d/{RELAY}?var-instance=${{__value.raw}}&{_KEEP}")
QUEUED_IN_AIRFLOW = Link(
    "Its queued tasks in Airflow", "${airflow}/task_instances?task_state=queued&queue_name_pattern=${__value.raw}"
)

_AIRFLOW_DEFAULT = "http://localhost:8080"


@dataclass(frozen=True)
class Row:
    """Panels under one headline, from left to right; a panel that does not fit begins a new line."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Choice:
    """A variable whose values are the values of a label.

    Attributes:
        series: The series that have the label; may name earlier variables.
        several: Whether several values, or all, can be chosen.
    """

    name: str
    title: str
    series: str
    several: bool = True

    def json(self) -> Json:
        """As Grafana's JSON."""
        query = f"label_values({self.series}, {self.name})"
        variable: Json = {
            "type": "query",
            "name": self.name,
            "label": self.title,
            "datasource": DATASOURCE,
            "definition": query,
            "query": {"query": query, "refId": "A"},
            "refresh": 2,
            "sort": 1,
            "multi": self.several,
            "includeAll": self.several,
        }
        if self.several:
            # Also matches series without the label: most queues have no team.
            variable |= {"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}}
        return variable


def dashboard(
    uid: str, title: str, description: str, choices: Sequence[Choice], rows: Sequence[Row], *, span: str = "now-6h"
) -> Json:
    """The JSON model.

    Args:
        uid: The ID that links use; it never changes.
        title: Shown after `Edge Relay / `.
        description: What the dashboard is for.
        choices: Variables in addition to the data source and Airflow's address.
        rows: The rows, from the top.
        span: The start of the time range.
    """
    return {
        "uid": uid,
        "title": f"Edge Relay / {title}",
        "description": description,
        "tags": [TAG],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": span, "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [_alerts()]},
        "links": [_other_dashboards(), _airflow_link()],
        "templating": {"list": [_datasource(), *(choice.json() for choice in choices), _airflow_address()]},
        "panels": _placed(rows),
    }


def _placed(rows: Sequence[Row]) -> list[Json]:
    placed: list[Json] = []
    y = 0
    for row in rows:
        headline = {"type": "row", "title": row.title, "collapsed": False, "panels": []}
        placed.append(headline | {"gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        x = line = 0
        for panel in row.panels:
            if x + panel.width > 24:
                x, y, line = 0, y + line, 0
            placed.append(panel.body | {"gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height}})
            x, line = x + panel.width, max(line, panel.height)
        y += line
    return [{"id": number} | panel for number, panel in enumerate(placed, 1)]


def _datasource() -> Json:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "refresh": 1,
        "multi": False,
        "includeAll": False,
    }


def _airflow_address() -> Json:
    value = {"text": _AIRFLOW_DEFAULT, "value": _AIRFLOW_DEFAULT}
    return {
        "type": "textbox",
        "name": "airflow",
        "label": "Airflow",
        "description": "Address of Airflow's web interface, for the links to it",
        "query": _AIRFLOW_DEFAULT,
        "current": value,
        "options": [value | {"selected": True}],
    }


def _other_dashboards() -> Json:
    return {
        "type": "dashboards",
        "title": "Edge Relay",
        "tags": [TAG],
        "icon": "dashboard",
        "tooltip": "",
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }


def _airflow_link() -> Json:
    return {
        "type": "link",
        "title": "Airflow",
        "url": "${airflow}",
        "icon": "external link",
        "tooltip": "Airflow's web interface; its address is the variable on the right",
        "tags": [],
        "asDropdown": False,
        "includeVars": False,
        "keepTime": False,
        "targetBlank": True,
    }


def _alerts() -> Json:
    """A red mark on all graphs while an alert fires."""
    return {
        "name": "Alerts",
        "enable": True,
        "iconColor": "red",
        "datasource": DATASOURCE,
        "expr": 'ALERTS{alertstate="firing", system="edge-relay"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}} {{site}} {{worker}} {{queue}} {{instance}}",
        "step": "60s",
    }
