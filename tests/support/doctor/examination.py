"""`edge-worker doctor` as a process, and what it found."""

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_schemas.wire.workers import Enrollment, WorkerSettings
from edge_worker.state.state import Identity, StateDir
from support.doctor.child import run
from support.relay.edge import Worker

COMMAND = (sys.executable, "-m", "edge_worker", "doctor", "--json")
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["edge_worker.cli", "edge_worker.doctor.checks"])


@dataclass(frozen=True)
class Report:
    """What a doctor found.

    Attributes:
        status: Of the process.
    """

    findings: tuple[dict[str, str], ...]
    status: int

    def of(self, check: str) -> dict[str, str]:
        """The first finding of a check."""
        return next(one for one in self.findings if one["check"] == check)

    def all(self, *statuses: str) -> list[str]:
        """The checks that ended so, in order."""
        return [one["check"] for one in self.findings if one["status"] in statuses]

    def fault(self, check: str) -> tuple[str, str]:
        """What was seen and what to do, of the one check that failed.

        Whatever comes before it was found good, so that nobody looks at the wrong layer.
        """
        assert self.all("failed") == [check], self.findings
        assert self.status == 1
        return self._told(check)

    def doubt(self, check: str) -> tuple[str, str]:
        """The same, of the one check that warned."""
        assert self.all("failed", "warning") == [check], self.findings
        assert self.status == 0
        return self._told(check)

    def _told(self, check: str) -> tuple[str, str]:
        found = self.of(check)
        assert found["advice"]
        return found["detail"], found["advice"]


@dataclass
class Patient:
    """A machine of an edge site, with all in order but for what a test breaks.

    Attributes:
        secrets: That no output may hold.
    """

    folder: Path
    runtime_dir: Path
    environment: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)

    @property
    def state(self) -> StateDir:
        return StateDir(self.folder / "state")

    def prepare(self, *, airflow: str | None = "3.3.2") -> None:
        """Files of a bundle, a state folder, and a runtime that answers a doctor's questions."""
        bundle = self.folder / "dags"
        bundle.mkdir()
        (bundle / "dag.py").write_text("")
        self.state.prepare()
        self.environment |= {
            "PATH": os.environ["PATH"],
            "EDGE_WORKER_STATE_DIR": str(self.state.path),
            "EDGE_WORKER_RUNTIME_DIR": str(self.runtime_dir),
            "EDGE_WORKER_RUNTIME_PYTHON": str(fake_interpreter(self.folder / "python", airflow)),
            "EDGE_WORKER_BUNDLES": json.dumps({"dags-folder": str(bundle)}),
            "EDGE_WORKER_SLOTS": "2",
        }

    def enrolled(self, worker: Worker, relay_url: str, queues: Sequence[str] = ("default",)) -> None:
        """As after `edge-worker enroll`."""
        settings = WorkerSettings(version=1, queues=tuple(queues))
        enrollment = Enrollment(worker=worker.name, site="plant", settings=settings)
        self.state.complete_enrollment(Identity(relay_url=relay_url, secret=worker.secret, enrollment=enrollment))
        self.secrets.append(worker.secret)

    async def examined(self, *options: str, env: Mapping[str, str] | None = None) -> Report:
        """Run the doctor; `env` is for this run only."""
        out, err = self.folder / "doctor.out", self.folder / "doctor.err"
        arguments = (["doctor", "--json", *options], self.environment | dict(env or {}), self.folder, out, err)
        process = _FORKS.Process(target=run, args=arguments)
        process.start()
        await asyncio.to_thread(process.join)
        assert process.exitcode is not None
        return self._report(process.exitcode, out.read_bytes(), err.read_bytes())

    async def examined_by(self, *command: str, env: Mapping[str, str] | None = None) -> Report:
        """Run the doctor by a command of its own, as a person does."""
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self.environment | dict(env or {}),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return self._report(process.returncode, out, err)

    def _report(self, status: int, out: bytes, err: bytes) -> Report:
        assert not err, err.decode()
        for secret in self.secrets:
            assert secret.encode() not in out
        return Report(tuple(json.loads(out)), status)


def fake_interpreter(path: Path, airflow: str | None) -> Path:
    """A runtime that reports its Airflow version immediately, and whose task host sends a greeting only."""
    program = Path(__file__).parents[1] / "worker" / "fake_interpreter.py"
    path.write_text(f"#!/bin/sh\nexec {sys.executable} -SE {program} '{airflow or ''}' \"$@\"\n")
    path.chmod(0o755)
    return path
