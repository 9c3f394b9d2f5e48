"""An api-server with users of each role and Edge Relay's page, in a folder of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import httpx

from support.airflow.real_airflow import JWT_SECRET, ApiServer
from support.nats.server import free_port

START_S = 240.0
"""With FAB it takes longer."""
USERS = ("viewer", "user", "op", "admin")
Commands: TypeAlias = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class PageAirflow:
    """A running api-server.

    Attributes:
        url: Without a trailing slash.
        log: Its output.
    """

    url: str
    server: ApiServer
    log: Path

    @contextmanager
    def browser(self, user: str | None) -> Iterator[httpx.Client]:
        """A browser in which a user of the role is signed in, with the headers that the page's scripts send."""
        headers = {"Edge-Csrf": "airflow", "Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=20) as client:
            if user is not None:
                answer = client.post("/auth/token", json={"username": user, "password": user})
                assert answer.status_code == 201, answer.text
                client.cookies.set("_token", answer.json()["access_token"])
            yield client


@contextmanager
def page_airflow(
    directory: Path, extra: Mapping[str, str], *, python: str = sys.executable, prepare: Commands = ()
) -> Iterator[PageAirflow]:
    """An api-server on a migrated database of its own; killed at the end.

    Args:
        directory: Its AIRFLOW_HOME; exists.
        extra: Further variables of its environment.
        python: The interpreter that has Airflow.
        prepare: Arguments of the interpreter, for what runs on the migrated database before the start.
    """
    passwords = directory / "passwords.json"
    passwords.write_text(json.dumps({user: user for user in USERS}))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(directory),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{user}" for user in USERS),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__API__SECRET_KEY": "a-session-secret-of-the-tests",
        "AIRFLOW__API_AUTH__JWT_SECRET": JWT_SECRET,
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__API__BASE_URL": url,
        **extra,
    }
    log = directory / "output.log"
    with log.open("ab") as output:
        for arguments in (("-m", "airflow", "db", "migrate"), *prepare):
            subprocess.run([python, *arguments], env=env, stdout=output, stderr=output, check=True)
    server = ApiServer(port, log, env=env, python=python, start_s=START_S)
    server.start()
    try:
        yield PageAirflow(url, server, log)
    finally:
        server.kill()


class Options:
    """Airflow's configuration, with these options in the section `edge_relay`."""

    def __init__(self, **options: str) -> None:
        self._options = options

    def get(self, section: str, key: str, *, fallback: str | None = None) -> str | None:
        """An option."""
        assert section == "edge_relay"
        return self._options.get(key, fallback)
