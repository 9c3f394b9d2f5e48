"""Airflow's own git bundle, published: with the provider in an environment of its own, from the package index."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from edge_broker.bundles.published import PublishedBundles
from support.bundles.airflow_bundles import Nats, entry, settings_for

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

PROVIDER = "apache-airflow-providers-git"
CODE = """
from airflow.dag_processing.bundles.manager import DagBundlesManager
first = DagBundlesManager().get_bundle("dags")
first.initialize()
first.refresh()
print("versions", first.get_current_version().version)
import subprocess
subprocess.run(["git", "-C", {repository!r}, "commit", "-qam", "two"], check=True)
first.refresh()
second = first.get_current_version().version
print("versions", second, (first.path / "helper.py").read_text())
print("git left out", not (first.path / ".git").exists(), (first.path / "helper.py").is_file())
pinned = DagBundlesManager().get_bundle("dags", {commit!r})
pinned.initialize()
print("pinned", (pinned.path / "helper.py").read_text())
"""


@pytest.fixture(scope="module")
def git_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with the provider, and all that this one has."""
    if given := os.environ.get("EDGE_TEST_GIT_PYTHON"):
        return given
    folder = tmp_path_factory.mktemp("git") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin/python")
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python, "--no-deps", PROVIDER], check=True
    )
    needed = ("gitpython", "gitdb", "smmap")
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python, "--no-deps", *needed], check=True
    )
    [own] = folder.glob("lib/python*/site-packages")
    (own / "ours.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return python


def test_commits_of_a_repository_are_published(
    git_python: str, nats: Nats, bundle_folder: Path, tmp_path: Path
) -> None:
    """Each commit is a version; one that Airflow knew before leads to its digest."""
    git = ("git", "-C", str(bundle_folder), "-c", "user.name=a test", "-c", "user.email=test@example.com")
    for words in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-qm", "one")):
        subprocess.run([*git, *words], check=True)
    for name, value in (("user.name", "a test"), ("user.email", "test@example.com")):
        subprocess.run([*git, "config", name, value], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    (bundle_folder / "helper.py").write_text("ANSWER = 2\n")
    made = entry("dags", bundle_folder)
    made["kwargs"]["inner"] = {
        "classpath": "airflow.providers.git.bundles.git.GitDagBundle",
        "kwargs": {"tracking_ref": "main", "repo_url": str(bundle_folder)},
    }
    settings = settings_for(nats.url, tmp_path, [made])
    code = CODE.format(repository=str(bundle_folder), commit=commit)
    ran = subprocess.run(
        [git_python, "-c", code],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "git left out True True" in ran.stdout
    assert "pinned ANSWER = 1" in ran.stdout
    known = nats.ask(lambda broker: PublishedBundles(broker).known("dags"))
    assert len({one.version for one in known} | {commit}) == len({one.digest for one in known}) == 2
