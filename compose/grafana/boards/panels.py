"""The panels: Grafana's JSON for the few kinds that we use, in one style."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Json: TypeAlias = dict[str, Any]
Steps: TypeAlias = Sequence[tuple[float | None, str]]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}

# The lowest value of each colour; None is below all values.
PLAIN: Steps = [(None, "blue")]
NONE_IS_WELL: Steps = [(None, "green"), (1, "red")]
NONE_IS_BAD: Steps = [(None, "red"), (1, "green")]


@dataclass(frozen=True)
class Query:
    """A PromQL expression and the name of its series; `legend` may contain `{{label}}`."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Link:
    """The target of a click on a value."""

    title: str
    url: str

    def json(self) -> Json:
        """As Grafana's JSON."""
        return {"title": self.title, "url": self.url, "targetBlank": False}


@dataclass(frozen=True)
class Panel:
    """A panel with its size, without its position. The full width is 24, a height of 8 is usual."""

    body: Json
    width: int
    height: int


@dataclass(frozen=True)
class Column:
    """A column of figures in a table: each query has one value for a row.

    Attributes:
        shown: False if only the labels of the query are needed.
    """

    title: str
    expr: str
    unit: str = "short"
    steps: Steps | None = None
    decimals: int | None = None
    shown: bool = True


@dataclass(frozen=True)
class Key:
    """A column made from a label of the figures. The labels that all figures share identify a row."""

    label: str
    title: str
    links: Sequence[Link] = ()
    colors: Mapping[str, str] = field(default_factory=dict)


def stat(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str = "short",
    steps: Steps = PLAIN,
    width: int = 3,
    texts: Mapping[str, str] | None = None,
    no_value: str = "unknown",
    decimals: int | None = None,
    show: Literal["value", "name"] = "value",
    links: Sequence[Link] = (),
) -> Panel:
    """The current value of one figure, with a colour for its state. A value from the past is never shown as current.

    Args:
        title: Of the panel.
        description: What the figure means and from which value on it is bad.
        query: Returns one series.
        unit: Grafana's name of the unit.
        steps: The lowest value of each colour.
        width: Of 24.
        texts: Texts that are shown instead of certain values.
        no_value: Text that is shown while there is no value.
        decimals: Number of decimals; None means as many as the value needs.
        show: `name` shows the legend instead of the value.
        links: Targets of a click.
    """
    defaults = _defaults(unit, steps, no_value=no_value, decimals=decimals, links=links)
    defaults["mappings"] = _value_mappings(texts or {})
    options = {
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": show,
        "wideLayout": True,
    }
    targets = [_as_of_now("A", query.expr) | {"format": "time_series", "legendFormat": query.legend or "__auto"}]
    return _panel("stat", title, description, targets=targets, defaults=defaults, options=options, size=(width, 4))


def graph(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    width: int = 8,
    height: int = 8,
    stacked: bool = False,
    steps: Steps | None = None,
    smallest: float | None = 0,
    largest: float | None = None,
    links: Sequence[Link] = (),
) -> Panel:
    """Figures over time.

    Args:
        title: Of the panel.
        description: What the figures mean.
        queries: Each may return many series.
        unit: Grafana's name of the unit.
        width: Of 24.
        height: 8 is usual.
        stacked: Whether the series add up to a total.
        steps: The lowest value of each colour; the last is drawn as a line.
        smallest: Start of the axis; None derives it from the values.
        largest: End of the axis.
        links: Targets of a click on a series.
    """
    defaults = _defaults(unit, steps or PLAIN, links=links)
    defaults |= {name: value for name, value in (("min", smallest), ("max", largest)) if value is not None}
    defaults["color"] = {"mode": "palette-classic"}
    defaults["custom"] = {
        "drawStyle": "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 25 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if steps is None else "line"},
    }
    options = {
        "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    targets = [_over_time(_letter(number), query) for number, query in enumerate(queries)]
    size = (width, height)
    return _panel("timeseries", title, description, targets=targets, defaults=defaults, options=options, size=size)


def table(
    title: str,
    description: str,
    keys: Sequence[Key],
    columns: Sequence[Column],
    *,
    width: int = 24,
    height: int = 9,
    sort_by: str | None = None,
    descending: bool = True,
) -> Panel:
    """A table of current values.

    Args:
        title: Of the panel.
        description: What a row means.
        keys: Labels to show, in order. Other labels are not shown.
        columns: Figures, in order. The expressions aggregate: a series with a metric name would get its own row.
        width: Of 24.
        height: 9 is usual.
        sort_by: Title of the column to sort by.
        descending: Largest first.
    """
    defaults = _defaults("short", PLAIN)
    defaults["custom"] = {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True, "inspect": False}
    options: Json = {"cellHeight": "sm", "showHeader": True}
    if sort_by is not None:
        options["sortBy"] = [{"displayName": sort_by, "desc": descending}]
    targets = [_as_of_now(_letter(number), column.expr) for number, column in enumerate(columns)]
    size = (width, height)
    panel = _panel("table", title, description, targets=targets, defaults=defaults, options=options, size=size)
    panel.body["transformations"] = _one_row_each(keys, columns)
    panel.body["fieldConfig"]["overrides"] = [*map(_key_override, keys), *map(_column_override, columns)]
    return panel


def quantile(share: float, histogram: str, *, by: str = "", where: str = "") -> str:
    """The value below which this share of a histogram's observations lies."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket{{{where}}}[$__rate_interval])))"


def rate(counter: str, *, by: str = "", where: str = "") -> str:
    """How fast a counter rises, per second."""
    return f"sum by ({by}) (rate({counter}{{{where}}}[$__rate_interval]))"


def _panel(
    kind: str,
    title: str,
    description: str,
    *,
    targets: Sequence[Json],
    defaults: Json,
    options: Json,
    size: tuple[int, int],
) -> Panel:
    body = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": list(targets),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }
    return Panel(body, *size)


def _defaults(
    unit: str,
    steps: Steps,
    *,
    no_value: str | None = None,
    decimals: int | None = None,
    links: Sequence[Link] = (),
) -> Json:
    defaults: Json = {"unit": unit, "color": {"mode": "thresholds"}, "mappings": [], "thresholds": _thresholds(steps)}
    if no_value is not None:
        defaults["noValue"] = no_value
    if decimals is not None:
        defaults["decimals"] = decimals
    if links:
        defaults["links"] = [link.json() for link in links]
    return defaults


def _thresholds(steps: Steps) -> Json:
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def _value_mappings(texts: Mapping[str, str]) -> list[Json]:
    options = {value: {"text": text, "index": index} for index, (value, text) in enumerate(texts.items())}
    return [{"type": "value", "options": options}] if options else []


def _over_time(letter: str, query: Query) -> Json:
    return {
        "refId": letter,
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "editorMode": "code",
        "range": True,
    }


def _as_of_now(letter: str, expr: str) -> Json:
    return {
        "refId": letter,
        "datasource": DATASOURCE,
        "expr": expr,
        "editorMode": "code",
        "format": "table",
        "instant": True,
        "range": False,
    }


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _one_row_each(keys: Sequence[Key], columns: Sequence[Column]) -> list[Json]:
    """Grafana returns one table per query; `merge` joins the entries whose shared labels are equal into rows."""
    figures = {_field(number, columns): column for number, column in enumerate(columns)}
    names = {key.label: key.title for key in keys} | {name: column.title for name, column in figures.items()}
    hidden = ["Time", *(name for name, column in figures.items() if not column.shown)]
    organize = {
        "excludeByName": dict.fromkeys(hidden, True),
        "includeByName": {},
        "indexByName": {name: index for index, name in enumerate(names)},
        "renameByName": names,
    }
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]


def _field(number: int, columns: Sequence[Column]) -> str:
    """Grafana's name for the value of a query; without a letter if there is only one query."""
    return "Value" if len(columns) == 1 else f"Value #{_letter(number)}"


def _key_override(key: Key) -> Json:
    properties: list[Json] = []
    if key.links:
        properties.append({"id": "links", "value": [link.json() for link in key.links]})
    if key.colors:
        options = {text: {"color": color, "index": index} for index, (text, color) in enumerate(key.colors.items())}
        properties.append({"id": "mappings", "value": [{"type": "value", "options": options}]})
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    return {"matcher": {"id": "byName", "options": key.title}, "properties": properties}


def _column_override(column: Column) -> Json:
    properties: list[Json] = [{"id": "unit", "value": column.unit}]
    if column.decimals is not None:
        properties.append({"id": "decimals", "value": column.decimals})
    if column.steps is not None:
        properties.append({"id": "thresholds", "value": _thresholds(column.steps)})
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    return {"matcher": {"id": "byName", "options": column.title}, "properties": properties}
