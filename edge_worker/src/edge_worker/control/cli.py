"""`edge-worker status`, `pause`, `resume`, `drain`, `stop` and `logs`. They use no network."""

import json
import os
import pwd
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_worker.control.client import ControlError, NoAgent, ask
from edge_worker.control.options import OWN
from edge_worker.control.own_pause import OwnPauseFile
from edge_worker.control.protocol import MAX_OWN_REASON_CHARS, AgentStatus, ControlRequest, Do, OwnPause
from edge_worker.control.task_logs import find_log, list_logs, read_log, readable
from edge_worker.control.words import facts, pause_text, size, status_lines, table
from edge_worker.settings import SettingsError
from edge_worker.settings_sources import load_settings
from edge_worker.state.agent_lock import lock_holder
from edge_worker.state.state import StateDir

EXIT_OK, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130
LOOK_EVERY_S = 1.0


def run(arguments: dict[str, object], *, config: Path | None) -> int:
    """Runs one of the commands; returns the exit status.

    Raises:
        SettingsError: A setting or an option cannot be used.
        OSError: A file can't be read or written.
    """
    own: dict[str, Any] = {name: arguments.pop(name, None) for name in OWN}
    state_dir = load_settings(arguments, config=config).state_dir
    try:
        match own["do"]:
            case "status":
                return _status(state_dir, as_json=own["json"])
            case "pause":
                return _pause(state_dir, own["reason"])
            case "resume":
                return _resume(state_dir)
            case "logs":
                return _logs(state_dir, own)
            case do:
                return _end(state_dir, do, waits=own["wait"])
    except ControlError as error:
        print(f"edge-worker: {error}", file=sys.stderr)
        return EXIT_FAILED


def _status(state_dir: Path, *, as_json: bool) -> int:
    now = datetime.now(UTC)
    try:
        status = ask(state_dir, ControlRequest(do="status"))
    except NoAgent as error:
        _without_agent(state_dir, str(error), now, as_json=as_json)
        return EXIT_FAILED
    if as_json:
        print(json.dumps({"running": True, **status.model_dump(mode="json")}, indent=2))
    else:
        _print(status_lines(status, now))
    return EXIT_OK


def _without_agent(state_dir: Path, why: str, now: datetime, *, as_json: bool) -> None:
    """What the state folder holds while no agent runs."""
    identity = StateDir(state_dir).identity()
    pause = _kept_pause(state_dir)
    jobs, ended = (_count(state_dir / name) for name in ("jobs", "ended"))
    holder = _holder(state_dir)
    if as_json:
        found = {
            "running": holder is not None,
            "why": why,
            "state_dir": str(state_dir),
            "worker": identity and identity.enrollment.worker,
            "relay": identity and identity.relay_url,
            "own_pause": pause and pause.model_dump(mode="json"),
            "unfinished_jobs": jobs,
            "ended_jobs": ended,
        }
        print(json.dumps(found, indent=2))
        return

    def lines() -> Iterator[tuple[str, str]]:
        if holder is None:
            yield "agent", f"none runs: {why}"
        else:
            yield "agent", f"process {holder} runs, but does not answer: {why}"
        if identity is None:
            yield "worker", "this machine is not enrolled: 'edge-worker enroll'"
        else:
            yield "worker", f"{identity.enrollment.worker} at site {identity.enrollment.site}"
            yield "relay", identity.relay_url
        yield "owner", "nothing is set" if pause is None else pause_text(pause, now)
        yield "jobs", f"{jobs} are not finished; the next start continues with them" if jobs else "none is unfinished"
        yield "logs", f"of {ended} ended jobs: 'edge-worker logs'"
        yield "state", str(state_dir)

    _print(facts(lines()))


def _pause(state_dir: Path, reason: str) -> int:
    if len(reason) > MAX_OWN_REASON_CHARS:
        raise SettingsError(f"--reason: at most {MAX_OWN_REASON_CHARS} characters")
    try:
        status = ask(state_dir, ControlRequest(do="pause", reason=reason))
    except NoAgent:
        pause = OwnPause(reason=reason, since=datetime.now(UTC), by=_user())
        with _without_running_agent(state_dir) as state:
            OwnPauseFile(state.path).write(pause)
        print("Paused. No agent runs; the next one takes no jobs until 'edge-worker resume'.")
        return EXIT_OK
    print(f"Paused: {status.worker} takes no new jobs until 'edge-worker resume', also after a restart.")
    if status.jobs:
        print(f"{_number(len(status.jobs))} on.")
    return EXIT_OK


def _resume(state_dir: Path) -> int:
    try:
        status = ask(state_dir, ControlRequest(do="resume"))
    except NoAgent:
        with _without_running_agent(state_dir) as state:
            OwnPauseFile(state.path).remove()
        print("Nothing is set any more. No agent runs: 'edge-worker run'.")
        return EXIT_OK
    if status.refusal is None:
        print(f"{status.worker} takes jobs.")
    else:
        print(f"The pause of this machine is over, but {status.worker} takes no jobs: {status.refusal}")
    return EXIT_OK


def _end(state_dir: Path, do: Do, *, waits: bool) -> int:
    """Has the agent end, and follows it until it has."""
    status = ask(state_dir, ControlRequest(do=do))
    text = "takes no new jobs and ends when those that run have ended" if do == "drain" else "stops its jobs and ends"
    print(f"{status.worker} {text}.", flush=True)
    if not waits:
        return EXIT_OK
    try:
        _follow(state_dir, status)
    except KeyboardInterrupt:
        print(f"\nNot waiting any longer; the {do} goes on.", file=sys.stderr)
        return EXIT_INTERRUPTED
    print("The agent has ended.")
    return EXIT_OK


def _follow(state_dir: Path, status: AgentStatus) -> None:
    told: set[str] | None = None
    while True:
        jobs = {job.job for job in status.jobs}
        if jobs != told:
            told = jobs
            print(f"{_number(len(jobs))} on." if jobs else "No job is left; logs and outcomes are sent.", flush=True)
        time.sleep(LOOK_EVERY_S)
        try:
            status = ask(state_dir, ControlRequest(do="status"))
        except NoAgent:
            if _holder(state_dir) is None:
                return


def _logs(state_dir: Path, own: dict[str, Any]) -> int:
    if own["job"] is not None:
        for line in read_log(find_log(state_dir, own["job"]), follow=own["follow"]):
            print(line.decode(errors="replace") if own["json"] else readable(line), flush=own["follow"])
        return EXIT_OK
    if own["follow"]:
        raise SettingsError("--follow needs a job: 'edge-worker logs' lists them")
    found = list_logs(state_dir, own["limit"])
    if own["json"]:
        items = [
            {"job": one.job, "task": one.task, "finished": one.is_kept, "bytes": one.bytes, "log": str(one.folder)}
            for one in found
        ]
        print(json.dumps({"items": items}, indent=2))
    elif not found:
        print(f"There is no log in {state_dir}: no job has run here, or they were removed meanwhile.")
    else:
        header = ("JOB", "STATE", "CHANGED", "SIZE", "TASK")
        rows = [
            (
                one.job,
                "finished" if one.is_kept else "not finished",
                f"{datetime.fromtimestamp(one.changed_at, UTC):%F %T} UTC",
                size(one.bytes),
                one.task,
            )
            for one in found
        ]
        _print(table(header, rows))
    return EXIT_OK


@contextmanager
def _without_running_agent(state_dir: Path) -> Iterator[StateDir]:
    """The state folder, locked, so that no agent starts meanwhile.

    Raises:
        ControlError: An agent runs, but does not answer; or there is no such folder.
        SettingsError: The folder cannot be used.
    """
    state = StateDir(state_dir)
    if not state.path.is_dir():
        raise ControlError(f"there is no state folder {state.path}: see --state-dir")
    if _holder(state_dir) is not None:
        raise ControlError("an agent runs, but does not answer; try again, and see its log if that does not help")
    with _as_user_of(state_dir), state.locked():
        yield state


@contextmanager
def _as_user_of(state_dir: Path) -> Iterator[None]:
    """As root, act as the agent's user.

    Else the agent could not read what is written, or could have root write elsewhere by a link.
    """
    found = state_dir.stat()
    if os.geteuid() != 0 or found.st_uid == 0:
        yield
        return
    os.setegid(found.st_gid)
    os.seteuid(found.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def _kept_pause(state_dir: Path) -> OwnPause | None:
    try:
        return OwnPauseFile(state_dir).read()
    except ValueError:
        raise ControlError(f"{OwnPauseFile(state_dir).path} is damaged; 'edge-worker resume' removes it") from None


def _holder(state_dir: Path) -> int | None:
    try:
        return lock_holder(state_dir)
    except OSError:
        return None


def _count(folder: Path) -> int:
    try:
        return sum(1 for _ in os.scandir(folder))
    except FileNotFoundError:
        return 0


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _number(jobs: int) -> str:
    return "1 job goes" if jobs == 1 else f"{jobs} jobs go"


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)
