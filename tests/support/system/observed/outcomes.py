"""What became of the tasks of a run, as Airflow stored it: to compare two runs of the same tasks.

Read from Airflow's database, which holds also what its API changes or leaves out, and logs from the log view.
"""

import asyncio
import json
import re
import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from local.system.system import LocalSystem

ASPECTS = ("end", "xcom", "log", "more")
_TRIES = """
    SELECT task_id, map_index, try_number, state, rendered_map_index, max_tries, start_date,
           (julianday(end_date) - julianday(start_date)) * 86400 AS seconds
    FROM {table} WHERE dag_id = ? AND run_id = ?
"""
_XCOMS = "SELECT task_id, map_index, key, value FROM xcom WHERE dag_id = ? AND run_id = ?"
_RENDERED = (
    "SELECT task_id, map_index, rendered_fields FROM rendered_task_instance_fields WHERE dag_id = ? AND run_id = ?"
)
_EVENTS = """
    SELECT source_task_id AS task_id, source_map_index AS map_index, extra
    FROM asset_event WHERE source_dag_id = ? AND source_run_id = ?
"""
_VARIES = (
    # What differs between two runs anywhere: (pattern, what stands for it).
    (re.compile(r"unusual_prefix_[0-9a-f]+_"), ""),
    (re.compile(r"0x[0-9a-f]{6,}"), "0x"),
    (re.compile(r"/[^\s\"',:]*/(dags|[0-9a-f]{64}(/tree)?)/"), "dags/"),
    (re.compile(r"/[^\s\"',:]*/airflowtmp\w*"), "airflowtmp"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*(Z|[+]00:00)?"), "<time>"),
    (re.compile(r"DateTime\(\d[^()]*tzinfo=Timezone\('UTC'\)\)"), "<time>"),
    (re.compile(r"\(ID \d+\)"), "(ID)"),
    (re.compile(r"(hostname|queue)='[^']*'"), r"\1=''"),
    (re.compile(r"'traceparent': '[^']*'"), "'traceparent': ''"),
    (re.compile(r"(?i)(\bpid\W{1,3})\d+"), r"\1<pid>"),
)
_UNCOMPARED_FIELDS = {"timestamp", "bundle_prepare_ms", "dag_file_parse_ms", "pid", "ti"}
_OWN_FILE = re.compile(r"/dags/|/[0-9a-f]{64}/")
"""In a folder of DAG files, or of a version of them."""
_OF_THE_WORKER = re.compile(r"Edge worker: (runs version|fetches |version \w+ is complete)")
"""Lines about the code, which Airflow writes elsewhere."""
_SOURCES_BEGIN, _SOURCES_END = "::group::Log message source details", "::endgroup::"
"""The log view begins with where the lines come from, which differs."""


@dataclass
class Outcome:
    """What became of some tasks of a run. Two outcomes are alike if their aspects are.

    Attributes:
        end: Each try with its state.
        xcom: All XComs.
        log: The lines of each try by logger. The order of lines of different loggers is chance: they arrive by
            different pipes.
        more: Rendered fields and asset events.
        seconds: How long each try took.
    """

    end: list[Any] = field(default_factory=list)
    xcom: list[Any] = field(default_factory=list)
    log: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    more: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


async def outcomes(system: LocalSystem, dag: str, run: str, ids: dict[str, str]) -> dict[str, Outcome]:
    """The outcomes of an ended run.

    Args:
        system: Where it ran.
        dag: The id of its DAG. `<dag>` stands for it in what is compared.
        run: The id of the run. `<run>` stands for it in what is compared.
        ids: The outcome to which each task belongs, by the task's id.
    """
    found: defaultdict[str, Outcome] = defaultdict(Outcome)
    tries = [
        row for table in ("task_instance", "task_instance_history") for row in _rows(system, _TRIES, dag, run, table)
    ]
    for row in tries:
        outcome = found[ids[row["task_id"]]]
        columns = ("task_id", "map_index", "try_number", "state", "rendered_map_index", "max_tries")
        outcome.end.append([row[column] for column in columns])
        outcome.seconds.append(row["seconds"] or 0.0)
    for row in _rows(system, _XCOMS, dag, run):
        found[ids[row["task_id"]]].xcom.append(_normal([*row], dag, run))
    for query in (_RENDERED, _EVENTS):
        for row in _rows(system, query, dag, run):
            found[ids[row["task_id"]]].more.append(_normal([*row], dag, run))
    started = [row for row in tries if row["start_date"] and row["seconds"] is not None and row["try_number"]]
    few = asyncio.Semaphore(4)

    async def read(row: sqlite3.Row) -> None:
        task, number, index = row["task_id"], row["try_number"], row["map_index"]
        async with few:
            lines = await system.api.log(dag, run, task, attempt=number, map_index=index)
        found[ids[task]].log[f"{task} {index} {number}"] = _by_logger(lines, dag, run)

    async with asyncio.TaskGroup() as reads:
        for row in started:
            reads.create_task(read(row))
    for outcome in found.values():
        for part in (outcome.end, outcome.xcom, outcome.more):
            part.sort(key=repr)
    return dict(found)


def _rows(system: LocalSystem, query: str, dag: str, run: str, table: str = "") -> list[sqlite3.Row]:
    with closing(sqlite3.connect(system.airflow.directory / "airflow.db", timeout=60)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(query.format(table=table), (dag, run)).fetchall()


def _by_logger(lines: list[dict[str, Any]], dag: str, run: str) -> dict[str, list[str]]:
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in _without_sources(lines):
        if _OF_THE_WORKER.match(str(line.get("event"))):
            continue
        for error in line.get("error_detail") or ():
            # Frames of Airflow, and of what starts Airflow's code, are not the task's.
            error["frames"] = [frame for frame in error["frames"] if _OWN_FILE.search(frame["filename"])]
        found[str(line.get("logger"))].append(line)
    return {logger: [_normal(line, dag, run) for line in _without_frames(said)] for logger, said in found.items()}


def _without_frames(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the frames of a printed stack that are not the task's own, and the source line below each."""
    kept: list[dict[str, Any]] = []
    below_a_frame = False
    for line in lines:
        text = str(line.get("event"))
        is_source = below_a_frame and text.startswith("    ")
        below_a_frame = text.startswith('  File "') and not _OWN_FILE.search(text)
        if not below_a_frame and not is_source:
            kept.append({key: value for key, value in line.items() if key not in _UNCOMPARED_FIELDS})
    return kept


def _without_sources(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    events = [line.get("event") for line in lines]
    if not events or events[0] != _SOURCES_BEGIN:
        return lines
    return lines[events.index(_SOURCES_END) + 1 :]


def _normal(value: Any, dag: str, run: str) -> str:
    """As text, without what differs between two runs anywhere."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=repr)
    text = text.replace(run, "<run>").replace(dag, "<dag>")
    for pattern, instead in _VARIES:
        text = pattern.sub(instead, text)
    return text
