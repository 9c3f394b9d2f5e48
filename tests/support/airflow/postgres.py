"""A PostgreSQL of our own, where one is installed: for what SQLite cannot show."""

import asyncio
import os
import pwd
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from local.system.ports import choose_port

_PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_DRIVERS = ("psycopg2", "asyncpg")


def missing() -> str:
    """Why there can be none; empty if there can."""
    if _program("initdb") is None or _program("pg_ctl") is None:
        return "needs PostgreSQL's initdb and pg_ctl, on PATH or below /usr/lib/postgresql"
    if lacking := [driver for driver in _DRIVERS if find_spec(driver) is None]:
        return f"needs {' and '.join(lacking)}: pip install psycopg2-binary asyncpg"
    if os.geteuid() == 0 and _server_user() is None:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return ""


def needed() -> pytest.MarkDecorator:
    """Skips tests where there can be no PostgreSQL, but never in CI."""
    reason = missing()
    return pytest.mark.skipif(bool(reason) and not os.environ.get("CI"), reason=reason)


@asynccontextmanager
async def postgres() -> AsyncIterator[str]:
    """A server with an empty database while inside; gives its address for SQLAlchemy."""
    with TemporaryDirectory(prefix="edge-relay-pg-") as folder:
        place, port = Path(folder), choose_port()
        if user := _server_user():
            shutil.chown(place, user)
        data = str(place / "data")
        await _run("initdb", "-D", data, "-U", "airflow", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={place} -c fsync=off"
        await _run("pg_ctl", "-D", data, "-w", "-l", str(place / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg2://airflow@127.0.0.1:{port}/postgres"
        finally:
            await _run("pg_ctl", "-D", data, "-m", "immediate", "stop")


def _program(name: str) -> str | None:
    return shutil.which(name) or next(
        (str(place / name) for place in reversed(_PLACES) if (place / name).exists()), None
    )


def _server_user() -> str | None:
    """Who is to run the server, if not this process's user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return None


async def _run(name: str, *arguments: str) -> None:
    """Run one of its programs to its end.

    Raises:
        AssertionError: It failed; the text has what it said.
    """
    program = _program(name)
    assert program is not None
    # The server that pg_ctl starts would keep a pipe open.
    with TemporaryDirectory() as folder, (Path(folder) / "output").open("w+b") as output:
        process = await asyncio.create_subprocess_exec(
            *(program, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            user=_server_user(),
            cwd="/",
        )
        status = await process.wait()
        output.seek(0)
        assert status == 0, f"{name} ended with status {status}: {output.read().decode(errors='replace')}"
