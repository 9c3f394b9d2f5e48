"""The dashboards as Grafana will read them; what their queries return is shown by the test with a real Prometheus."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

# PyYAML ships no types.
import yaml  # type: ignore[import-untyped]

from grafana.boards import __main__ as boards

GRAFANA = Path(boards.__file__).parents[1]
MADE: dict[str, dict[str, Any]] = {name: make() for name, make in boards.BOARDS.items()}
PANELS = [(name, panel) for name, board in MADE.items() for panel in board["panels"] if panel["type"] != "row"]
BUILT_IN = {"__rate_interval", "__url_time_range", "__value.raw"}

each_board = pytest.mark.parametrize("board", MADE.values(), ids=MADE.keys())
each_panel = pytest.mark.parametrize(
    "panel", [panel for _, panel in PANELS], ids=[f"{name}-{panel['title']}" for name, panel in PANELS]
)


def variables(board: dict[str, Any]) -> set[str]:
    return {variable["name"] for variable in board["templating"]["list"]}


def links(board: dict[str, Any]) -> set[str]:
    """Where clicks within the board lead, other than to Airflow."""
    return set(re.findall(r'"url": "(/d/[^"]*)"', json.dumps(board)))


def test_the_files_are_what_the_code_says() -> None:
    assert boards.stale(boards.FOLDER) == []


def test_a_file_that_was_edited_or_left_over_is_noticed(tmp_path: Path) -> None:
    for name, make in boards.BOARDS.items():
        (tmp_path / name).write_text(boards.text(make))
    assert boards.stale(tmp_path) == []
    (tmp_path / "fleet.json").write_text("{}")
    (tmp_path / "old.json").write_text("{}")
    assert boards.stale(tmp_path) == ["fleet.json", "old.json"]


@each_panel
def test_a_panel_says_what_it_shows_and_what_is_bad(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["targets"]
    assert panel["fieldConfig"]["defaults"]["unit"]


@each_board
def test_panels_have_places_of_their_own(board: dict[str, Any]) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        )
        for cell in cells:
            assert taken.setdefault(cell, panel["title"]) == panel["title"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


@each_board
def test_the_first_line_answers_whether_all_is_well(board: dict[str, Any]) -> None:
    headline, *panels = board["panels"]
    assert headline["title"] == "Is all well?"
    first = list(itertools.takewhile(lambda panel: panel["type"] != "row", panels))
    assert {panel["type"] for panel in first} == {"stat"}
    assert len({panel["gridPos"]["y"] for panel in first}) == 1


@each_board
def test_links_lead_to_dashboards_that_know_the_variables(board: dict[str, Any]) -> None:
    known = {other["uid"]: variables(other) for other in MADE.values()}
    for url in links(board):
        uid, _, query = url.removeprefix("/d/").partition("?")
        assert set(re.findall(r"var-(\w+)=", query)) <= known[uid]
        assert set(re.findall(r"\$\{(\w+):queryparam\}", query)) <= known[uid] & variables(board)


def test_workers_sites_and_queues_can_be_clicked() -> None:
    leads_to = {name: {url.partition("=")[0] for url in links(board)} for name, board in MADE.items()}
    assert {"/d/edge-relay-worker?var-worker", "/d/edge-relay-fleet?var-site"} <= leads_to["fleet.json"]
    assert "/d/edge-relay-queues?var-queue" in leads_to["queues.json"]
    assert "/d/edge-relay-fleet?var-site" in leads_to["worker.json"]
    for board in MADE.values():
        assert {"dashboards", "link"} == {link["type"] for link in board["links"]}


@each_board
def test_queries_use_variables_that_there_are(board: dict[str, Any]) -> None:
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            used = set(re.findall(r"\$\{?([\w.]+)", target["expr"]))
            assert used <= variables(board) | BUILT_IN, panel["title"]


def test_grafana_is_provisioned_with_them() -> None:
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/edge-relay.yml").read_text())["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    # Each dashboard lets choose among data sources of this kind and takes the default first.
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    for board in MADE.values():
        assert next(v for v in board["templating"]["list"] if v["type"] == "datasource")["query"] == source["type"]
