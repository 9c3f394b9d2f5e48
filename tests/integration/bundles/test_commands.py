"""`airflow edge-relay bundles …` in this process, with a real NATS."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_broker.bundles.published import PublishedBundles
from edge_broker.bundles.store import BundleStore
from edge_broker.subjects import BUNDLES
from support.bundles.airflow_bundles import LOCAL, Nats, Run, entry
from support.nats.server import free_port
from support.pages.publish_page import PUBLISH

pytestmark = pytest.mark.usefixtures("configured")


def test_a_configured_bundle_is_published_shown_and_listed(run: Run, nats: Nats, bundle_folder: Path) -> None:
    status, out, err = run("publish", "dags")
    assert status == 0, err
    digest = re.search(r"^digest  ([0-9a-f]{64})$", out, re.MULTILINE)
    assert digest is not None
    assert out.splitlines()[::2] == ["bundle  dags", "files   2 with 145 bytes"]
    assert re.search(r"^new     2 pieces, \d+ bytes stored$", out, re.MULTILINE)
    assert run("publish", "dags")[1].endswith("new     nothing: it was published\n")
    (bundle_folder / "run.sh").write_text("#!/bin/sh\n")
    (bundle_folder / "run.sh").chmod(0o755)
    again = json.loads(run("publish", "dags", "--json")[1])
    assert (again["bundle"], again["files"], again["is_new"], again["new_pieces"]) == ("dags", 3, True, 1)

    status, out, _ = run("list")
    head, *rows = [re.split(r"  +", line) for line in out.splitlines()]
    assert head == ["BUNDLE", "DIGEST", "FILES", "BYTES", "PUBLISHED", "ALSO KNOWN AS"]
    assert [row[:4] for row in rows] == [
        ["dags", again["digest"][:12], "current", "3"],
        ["dags", digest[1][:12], "2", "145"],
    ]
    listed = json.loads(run("list", "--json")[1])
    assert [(one["digest"], one["current"]) for one in listed] == [(again["digest"], True), (digest[1], False)]
    assert listed[0]["by"].startswith("airflow edge-relay bundles publish on ")

    status, out, _ = run("show", "dags")
    assert (status, again["digest"] in out) == (0, True)
    assert re.search(r"^x +10  run\.sh$", out, re.MULTILINE)
    shown = json.loads(run("show", "dags", digest[1][:8], "--json")[1])
    assert (shown["digest"], [file["path"] for file in shown["files"]]) == (
        digest[1],
        ["helper.py", "published_dag.py"],
    )
    current = nats.ask(lambda broker: PublishedBundles(broker).current("dags"))
    assert current is not None
    assert current.digest == again["digest"]


def test_a_folder_is_published_under_any_name(run: Run, nats: Nats, bundle_folder: Path) -> None:
    """What Airflow is not configured with, and with requirements."""
    (bundle_folder / "needs.txt").touch()
    words = ("--path", str(bundle_folder), "--name", "größe 1", "--requirements", "needs.txt")
    status, out, err = run("publish", *words)
    assert (status, "größe 1" in out) == (0, True), err
    [version] = nats.ask(lambda broker: PublishedBundles(broker).versions("größe 1"))
    assert version.requirements_for("any") == "needs.txt"


def test_a_name_controls_no_terminal(run: Run, nats: Nats, bundle_folder: Path) -> None:
    """Who may publish chooses names freely, and others read them."""
    name = "\x1b[2Jdags\r\n\u202efake"
    status, out, err = run("publish", "--path", str(bundle_folder), "--name", name)
    assert status == 0, err
    for text in (out, run("list")[1], run("show", name)[1]):
        assert "?[2Jdags???fake" in text
        assert {"\x1b", "\r", "\u202e"}.isdisjoint(text)
    [listed] = json.loads(run("list", "--json")[1])
    assert listed["bundle"] == name


def test_a_bundle_of_airflows_own_class_is_published(
    run: Run, nats: Nats, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the version that Airflow knows, where the class has versions."""
    (tmp_path / "git").mkdir()
    bundle_folder.rename(tmp_path / "git" / "c0ffee")
    kinds = {
        "plain": (LOCAL, {"path": str(tmp_path / "git" / "c0ffee")}),
        "git": ("support.bundles.versioned_bundle.FolderOfVersions", {"root": str(tmp_path / "git")}),
    }
    bundles = [{"name": name, "classpath": kind, "kwargs": kwargs} for name, (kind, kwargs) in kinds.items()]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    digests = {json.loads(run("publish", name, "--json")[1])["digest"] for name in kinds}
    assert len(digests) == 1
    assert json.loads(run("show", "git", "c0ffee", "--json")[1])["known_as"] == ["c0ffee"]
    assert len(nats.ask(lambda broker: BundleStore(broker).manifests())) == 1


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("publish",), 2, "name a bundle of"),
        (("publish", "other"), 2, "'other' is not configured. See [dag_processor] dag_bundle_config_list"),
        (("publish", "dags", "--path", "/tmp"), 2, "--path needs --name, and no configured bundle"),
        (("publish", "--path", "/no/such/folder", "--name", "x"), 1, "/no/such/folder can't be read"),
        (("publish", "dags", "--requirements", "no.txt"), 1, "requirements names 'no.txt' for queue '*'"),
        (("show", "dags"), 2, "bundle 'dags': there is no current version; see"),
        (("show", "dags", "abc"), 2, "bundle 'dags': there is no version 'abc'; see"),
    ],
)
def test_what_cannot_be_done_is_explained(run: Run, words: tuple[str, ...], status: int, text: str) -> None:
    found, out, err = run(*words)
    assert (found, out) == (status, "")
    assert text in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith(f"airflow edge-relay bundles {words[0]}: ")


def test_without_nats_its_streams_or_a_password(
    run: Run, nats: Nats, monkeypatch: pytest.MonkeyPatch, bundle_folder: Path
) -> None:
    nats.ask(lambda broker: broker.api(f"STREAM.DELETE.{BUNDLES}"))
    status, _, err = run("publish", "dags")
    assert (status, "run 'edge-relay streams apply'" in err) == (1, True)
    monkeypatch.setattr("edge_bridge.bundles.connection.CONNECT_S", 0.3)
    monkeypatch.setenv("AIRFLOW__EDGE_RELAY__NATS_URLS", f"nats://127.0.0.1:{free_port()}")
    status, _, err = run("list")
    assert (status, "no connection to NATS" in err) == (1, True)
    monkeypatch.delenv("AIRFLOW__EDGE_RELAY__PUBLISHER_PASSWORD")
    status, _, err = run("list")
    assert (status, "publisher_password" in err) == (2, True)
    limited = entry("dags", bundle_folder, max_bytes=2 << 30)
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([limited]))
    status, _, err = run("publish", "dags")
    assert (status, "max_bytes is 2147483648" in err) == (2, True)


def test_the_page_about_publishing(
    run: Run, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its configuration and its commands, in their order."""
    [block] = PUBLISH.blocks("ini")[:1]
    parser = configparser.ConfigParser()
    parser.read_string(block.replace("/opt/airflow/dags", str(bundle_folder)))
    bundles = parser["dag_processor"]["dag_bundle_config_list"]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", bundles)
    shutil.copytree(bundle_folder, tmp_path / "checkout")
    (tmp_path / "checkout" / "requirements.txt").write_text("requests\n")
    monkeypatch.chdir(tmp_path)
    for command in PUBLISH.commands:
        program, group, part, *words = shlex.split(command)
        assert (program, group, part) == ("airflow", "edge-relay", "bundles")
        status, out, err = run(*words)
        assert status == 0, err
        assert re.search(PUBLISH.run[command], out, re.MULTILINE), out


def test_a_program_reads_nothing_but_json() -> None:
    """Airflow's log goes to standard error."""
    command = ["-m", "airflow", "edge-relay", "bundles", "publish", "dags", "--json"]
    ran = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(ran.stdout)["is_new"]
    assert "DAG bundles loaded" in ran.stderr
