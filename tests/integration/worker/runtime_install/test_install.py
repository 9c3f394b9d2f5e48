"""`edge-worker runtime install` with tiny wheels: what is asked for, what is put in place, and what survives a failure.

That the real Airflow is installed, and runs a task, shows test_runtime_install_for_real.
"""

import asyncio
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_schemas.gate.centre import CentreFacts
from edge_worker.cli import main
from edge_worker.runtime_install.folder import RuntimeFolder
from edge_worker.settings import Settings
from edge_worker.settings_sources import load_settings
from edge_worker.state.state import StateDir
from support.network.wheel_index import MIRROR, index_proxy, quick_python, write_airflow
from support.relay.fake_relay import FakeRelay
from support.worker.agent import eventually, make_identity
from support.worker.agent_process import agent_environment

OLD, NEW = "3.2.9", "3.3.2"
PASSWORD = "p4ss/w:rd@x"


@dataclass
class Result:
    """Of a command."""

    code: int
    output: str
    errors: str


@pytest.fixture
def python(tmp_path: Path) -> Path:
    return quick_python(tmp_path)


@pytest.fixture
def folder(settings: Settings, relay: FakeRelay) -> RuntimeFolder:
    """Of a worker that is enrolled."""
    state = StateDir(settings.state_dir)
    state.prepare()
    state.complete_enrollment(make_identity(relay))
    return RuntimeFolder(settings.state_dir / "runtime")


def centre(version: str, lock: str | None = None) -> CentreFacts:
    return CentreFacts(airflow_version=version, python_version="3.12.1", runtime_lock=lock)


async def start(settings: Settings, *arguments: str, **more: str) -> asyncio.subprocess.Process:
    environment = agent_environment(settings, HOME=str(settings.state_dir), PIP_CONFIG_FILE=os.devnull, **more)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edge_worker", "runtime", *arguments),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(settings: Settings, *arguments: str, **more: str) -> Result:
    process = await start(settings, *arguments, **more)
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    assert process.returncode is not None
    return Result(process.returncode, output.decode(), errors.decode())


def version_of(folder: RuntimeFolder) -> str:
    known = folder.current()
    return known[1].airflow if known else "none"


async def test_what_the_centre_names_from_a_wheel_folder(
    relay: FakeRelay, settings: Settings, folder: RuntimeFolder, python: Path, tmp_path: Path
) -> None:
    """First, again, and a newer one with a wheel that somebody has changed."""
    wheels = tmp_path / "wheels"
    command = ("install", "--python", str(python), "--wheels", str(wheels))
    relay.centre = centre(OLD, write_airflow(wheels, OLD))
    first = await run(settings, *command)
    assert (first.code, first.errors) == (0, "")
    assert "This takes about" in first.output
    assert f"Installed Airflow {OLD}" in first.output
    known = folder.current()
    assert known is not None
    assert (known[1].packages, known[1].lock_sha256 is not None, known[1].size_bytes > 100_000) == (2, True, True)
    assert list(known[0].glob("lib/python3*/site-packages/airflow/sdk/__pycache__/log.*.pyc"))
    assert load_settings({"state_dir": settings.state_dir}, {}).runtime_python == known[0] / "bin" / "python"

    again = await run(settings, *command)
    assert (again.code, folder.current()) == (0, known)
    assert "nothing to do" in again.output

    lock = write_airflow(wheels, NEW)
    digest = hashlib.sha256((wheels / f"apache_airflow-{NEW}-py3-none-any.whl").read_bytes()).hexdigest()
    relay.centre = centre(NEW, lock.replace(digest, "0" * 64))
    refused = await run(settings, *command)
    assert (refused.code, folder.current()) == (1, known)
    assert "hashes: " in refused.errors
    assert "previous runtime is unchanged" in refused.errors


async def test_through_the_workers_proxy_with_a_password_that_nobody_sees(
    relay: FakeRelay, settings: Settings, folder: RuntimeFolder, python: Path, tmp_path: Path
) -> None:
    """Killed in the middle, then done again: nothing of the first is left, no process, no file, no password."""
    relay.centre = centre(NEW, write_airflow(tmp_path / "wheels", NEW))
    secret = tmp_path / "proxy.password"
    secret.write_text(PASSWORD + "\n")
    async with index_proxy(tmp_path / "wheels", PASSWORD) as proxy:
        more = {
            "EDGE_WORKER_PROXY_URL": proxy.address,
            "EDGE_WORKER_PROXY_USER": "site",
            "EDGE_WORKER_PROXY_PASSWORD_FILE": str(secret),
            "EDGE_WORKER_NO_PROXY": "127.0.0.1",
            "PIP_TRUSTED_HOST": "mirror.invalid",
        }
        command = ("install", "--python", str(python), "--index-url", MIRROR)
        proxy.hold.clear()
        killed = await start(settings, *command, **more)
        await eventually(lambda: killed.returncode is not None or any("/files/" in path for path in proxy.asked))
        [draft] = [path for path in folder.path.iterdir() if path.is_dir()]
        assert killed.returncode is None
        killed.kill()
        await killed.communicate()
        await eventually(lambda: not users_of(draft))
        assert version_of(folder) == "none"
        proxy.hold.set()
        done = await run(settings, *command, **more)
        assert (done.code, version_of(folder)) == (0, NEW), done.errors
        assert not draft.exists()
        words = (PASSWORD.encode(), b"p4ss")
        assert not any(word in arguments for word in words for arguments in proxy.arguments)
        assert any(b"pip" in arguments for arguments in proxy.arguments)
        left = [path for path in folder.path.rglob("*") if path.is_file() and b"p4ss" in path.read_bytes()]
        assert left == []
        assert "p4ss" not in done.output + done.errors


def users_of(folder: Path) -> list[str]:
    """The processes that were started from a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(folder) in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


def test_nobody_says_what_to_install(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code, says in (
        ((), 5, "not enrolled"),
        (("--version", "3"), 2, "is not a version of Airflow"),
        (("--version", NEW, "--lock", os.devnull), 2, "does not pin apache-airflow"),
        (("--version", NEW, "--index-url", "https://u:p@mirror"), 2, "PIP_INDEX_URL"),
        (("--version", NEW, "--python", "/usr/bin/env"), 2, "is not a Python"),
    ):
        assert main(["runtime", "install", "--state-dir", str(tmp_path), *arguments]) == code
        assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.soak
@pytest.mark.parametrize("broken", ["407", "index away", "proxy away", "no wheel", "plain http"])
async def test_the_layer_that_fails_is_named(
    settings: Settings, folder: RuntimeFolder, python: Path, tmp_path: Path, broken: str
) -> None:
    """Each with what a real pip says of it."""
    write_airflow(tmp_path / "wheels", NEW)
    async with index_proxy(tmp_path / "wheels", "secret" if broken == "407" else "") as proxy:
        more = {"HTTP_PROXY": "", "http_proxy": proxy.address, "PIP_RETRIES": "0", "PIP_TRUSTED_HOST": "mirror.invalid"}
        version, index, layer = NEW, MIRROR, "index"
        if broken == "407":
            layer = "proxy"
        elif broken == "index away":
            more, index = {"PIP_RETRIES": "0"}, "http://127.0.0.1:9/simple"
        elif broken == "proxy away":
            more["http_proxy"], layer = "http://127.0.0.1:9", "proxy"
        elif broken == "plain http":
            del more["PIP_TRUSTED_HOST"]
        elif broken == "no wheel":
            version, layer = "3.3.99", "wheels"
        arguments = ("install", "--python", str(python), "--version", version, "--index-url", index)
        result = await run(settings, *arguments, **more)
    assert result.code == 1
    assert f"not installed. {layer}: " in result.errors, result.errors
    assert folder.current() is None
