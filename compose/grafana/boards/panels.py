"""What panels are made of: Grafana's JSON for the few kinds that we use, with one look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Json: TypeAlias = dict[str, Any]
Steps: TypeAlias = Sequence[tuple[float | None, str]]

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}

# From which value on which colour; None is the lowest.
PLAIN: Steps = [(None, "blue")]
NONE_IS_WELL: Steps = [(None, "green"), (1, "red")]
NONE_IS_BAD: Steps = [(None, "red"), (1, "green")]


@dataclass(frozen=True)
class Query:
    """A PromQL expression and how its series are called; `legend` may hold `{{label}}`."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Link:
    """Where a click on a value leads."""

    title: str
    url: str

    def json(self) -> Json:
        """In Grafana's terms."""
        return {"title": self.title, "url": self.url, "targetBlank": False}


@dataclass(frozen=True)
class Panel:
    """A panel that knows its size and not yet its place. The whole width is 24, a height of 8 is usual."""

    body: Json
    width: int
    height: int


@dataclass(frozen=True)
class Column:
    """A column of figures in a table: each query has one value for a row.

    Attributes:
        shown: Not if the query is there for its labels.
    """

    title: str
    expr: str
    unit: str = "short"
    steps: Steps | None = None
    decimals: int | None = None
    shown: bool = True


@dataclass(frozen=True)
class Key:
    """A column made from a label of the figures; those that all figures have decide what is one row."""

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
    """One figure as of now, coloured by whether all is well. What is not known now is not shown as it was once.

    Args:
        title: Of the panel.
        description: What the figure says and from when on it is bad.
        query: With one series.
        unit: Grafana's name for it.
        steps: From which value on which colour.
        width: Of 24.
        texts: What to show instead of certain values.
        no_value: Shown while there is none.
        decimals: As many as it takes if None.
        show: `name` shows the legend instead of the value.
        links: Where a click leads.
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
        description: What the figures say.
        queries: Each may have many series.
        unit: Grafana's name for it.
        width: Of 24.
        height: 8 is usual.
        stacked: If they add up to a whole.
        steps: From which value on which colour; the last is drawn as a line.
        smallest: Where the axis begins; None leaves it to the values.
        largest: Where it ends.
        links: Where a click on a series leads.
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
    """Rows as of now.

    Args:
        title: Of the panel.
        description: What a row is.
        keys: Labels that are shown, in order. A label that is not named is not shown.
        columns: Figures, in order. The expressions aggregate: what has a name of its own is no row of the others.
        width: Of 24.
        height: 9 is usual.
        sort_by: Title of a column.
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
    """The value that this share of a histogram's observations stays below."""
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
    """Grafana answers one table per query; `merge` makes rows of what agrees in all shared labels."""
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
    """What Grafana calls the value of a query; it has no letter where it is the only one."""
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
