"""A nats-server, and Airflow's configuration for bundles that are published."""

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_broker import layout
from edge_broker.connection.broker import Broker
from edge_broker.jetstream.stream_info import purge
from edge_broker.subjects import BUNDLES, BUNDLES_BUCKET, kv_stream
from support.bundles.airflow_bundles import Nats, Run, entry, settings_for
from support.nats.sync_nats import log_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """A nats-server for all tests of a module."""
    with log_server(tmp_path_factory.mktemp("nats")) as running:
        yield Nats(running)


@pytest.fixture
def nats(server: Nats) -> Nats:
    """The server with nothing published."""

    async def clear(broker: Broker) -> None:
        await layout.apply(broker, layout.DEFAULTS)
        await purge(broker, BUNDLES, "edge.bundles.>")
        await purge(broker, kv_stream(BUNDLES_BUCKET), "$KV.>")

    server.ask(clear)
    return server


@pytest.fixture
def bundle_folder(tmp_path: Path) -> Path:
    """The folder of a bundle with one DAG, which imports a helper."""
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "helper.py").write_text("ANSWER = 1\n")
    (folder / "published_dag.py").write_text(
        "from airflow.sdk import DAG\nfrom helper import ANSWER\n\n"
        'with DAG("published", schedule=None, description=f"answer {ANSWER}"):\n    pass\n'
    )
    return folder


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, nats: Nats, tmp_path: Path, bundle_folder: Path) -> None:
    """This process has Airflow's configuration with the published bundle `dags`."""
    for name, value in settings_for(nats.url, tmp_path, [entry("dags", bundle_folder)]).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command as Airflow does; returns exit status, output and errors."""
    from airflow.cli.cli_parser import AirflowHelpFormatter
    from airflow.cli.cli_parser import _add_command as add_command  # as Airflow's own parser does

    from edge_bridge.cli import get_cli_commands

    parser = ArgumentParser("airflow", formatter_class=AirflowHelpFormatter)
    commands: Any = parser.add_subparsers(dest="command")
    for command in get_cli_commands():
        add_command(commands, command)

    def run_command(*words: str) -> tuple[int, str, str]:
        status = 0
        try:
            args = parser.parse_args(["edge-relay", "bundles", *words])
            args.func(args)
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capfd.readouterr()
        # pytest's own standard output is no file descriptor, so Airflow's log is still in it here.
        lines = (line for line in out.splitlines(keepends=True) if not re.match(r"\d{4}-\d\d-\d\d[T ]\S+ +\[", line))
        return status, "".join(lines), err

    return run_command
