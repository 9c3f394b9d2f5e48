"""What an installation of a runtime is made of: locks, folders, proxies and what pip says of failures."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_schemas.gate.centre import CentreFacts
from edge_worker.environment import installer_environment
from edge_worker.relay.proxy import proxy_variables
from edge_worker.runtime_install.faults import explain
from edge_worker.runtime_install.folder import Busy, RuntimeFacts, RuntimeFolder
from edge_worker.runtime_install.install import Installation, InstallFailed
from edge_worker.runtime_install.locks import LockRefused, read_lock
from edge_worker.runtime_install.order import CentreUnknown, Order, order_of
from edge_worker.runtime_install.source import Source
from edge_worker.settings import Settings
from edge_worker.settings_sources import load_settings

HASH = "--hash=sha256:" + "0" * 64
LOCK = f"""# by 'make lock'
apache-airflow==3.3.2 ; python_full_version < '3.14' and sys_platform != 'win32' \\
    {HASH} \\
    {HASH}
uvicorn[standard]==0.40.0  # via apache-airflow-core
"""
FACTS = RuntimeFacts(
    airflow="3.3.2",
    python="3.11.7",
    base_python="/usr/bin/python3.11",
    made_of="x",
    lock_sha256=None,
    packages=2,
    size_bytes=1,
    seconds=1,
    source="a test",
    installed_at=datetime.now(UTC),
)


def test_a_lock_is_read_as_pip_reads_it() -> None:
    lock = read_lock(LOCK)
    assert (lock.airflow, lock.requirements) == ("3.3.2", 2)
    assert lock.text.splitlines() == [
        f"apache-airflow==3.3.2 ; python_full_version < '3.14' and sys_platform != 'win32' {HASH} {HASH}",
        "uvicorn[standard]==0.40.0",
    ]
    assert read_lock("# other comments\n" + LOCK.replace("    ", " ")).digest == lock.digest


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://evil.example",
        "--extra-index-url=https://evil.example",
        "-r /etc/passwd",
        "-e git+https://evil.example/x",
        "requests @ https://evil.example/requests.whl",
        "https://evil.example/requests.whl",
        "./local.whl",
        "requests>=2",
        "requests",
        "requests==2 --index-url https://evil.example",
        "requests==2 ; python_version > '3' --index-url https://evil.example",
        f"requests==2 {HASH} --find-links /tmp",
        f"requests==2 {HASH[:-1]}",
        "requests==2 \\\n --trusted-host evil.example",
    ],
)
def test_a_lock_says_which_releases_and_never_where_from(line: str) -> None:
    """It comes by way of the relay. What pip would also do is refused before pip sees it."""
    with pytest.raises(LockRefused, match="line 6 is not a pinned requirement"):
        read_lock(LOCK + line + "\n")


def test_a_lock_pins_airflow() -> None:
    with pytest.raises(LockRefused, match="does not pin apache-airflow"):
        read_lock("requests==2\n")


def test_the_centres_lock_wins_over_its_version_unless_it_is_too_new_for_it() -> None:
    older = CentreFacts(airflow_version="3.4.0", python_version="3.12.1", runtime_lock=LOCK)
    assert order_of(older).airflow == "3.3.2"
    assert order_of(older.model_copy(update={"runtime_lock": None})).requirements == "apache-airflow==3.4.0\n"
    for facts in (
        older.model_copy(update={"airflow_version": "3.2.0"}),
        older.model_copy(update={"runtime_lock": "x"}),
    ):
        with pytest.raises(CentreUnknown, match="runtime_lock"):
            order_of(facts)


def test_a_runtime_is_the_same_only_if_all_that_it_is_made_of_is() -> None:
    one = Order("3.3.2", None, "x")
    others = [Order("3.3.3", None, "x"), Order("3.3.2", read_lock(LOCK), "x")]
    assert one.made_of("3.11.7") == Order("3.3.2", None, "somebody else").made_of("3.11.7")
    assert len({one.made_of("3.11.7"), one.made_of("3.11.8"), *(other.made_of("3.11.7") for other in others)}) == 4


def test_one_runtime_follows_another_and_what_still_runs_keeps_its_own(tmp_path: Path) -> None:
    folder = RuntimeFolder(tmp_path / "runtime")
    with folder.locked(), pytest.raises(Busy), folder.locked():
        pass
    first = make_runtime(folder)
    used = load_settings({"state_dir": tmp_path}, {}).runtime_python
    assert used == first / "bin" / "python"
    # As a task host is started: by this path.
    with subprocess.Popen([used, "-c", "input()"], stdin=subprocess.PIPE) as running:
        second = make_runtime(folder)
        assert folder.current() == (second, FACTS)
        assert folder.remove_old() == [first]
        assert first.exists()
        running.kill()
    assert folder.remove_old() == []
    assert (first.exists(), second.exists()) == (False, True)


def test_a_torso_goes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    """`--dir` may name a folder in which somebody else has environments."""
    folder = RuntimeFolder(tmp_path)
    current, torso, foreign = make_runtime(folder), folder.draft("3.3.3"), tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "pyvenv.cfg").touch()
    (tmp_path / ".current-abc").symlink_to(torso)
    folder.remove_incomplete()
    folder.remove_old()
    assert (current.exists(), torso.exists(), foreign.exists()) == (True, False, True)
    assert not (tmp_path / ".current-abc").is_symlink()


def make_runtime(folder: RuntimeFolder) -> Path:
    folder.path.mkdir(exist_ok=True)
    draft = folder.draft("3.3.2")
    (draft / "bin").mkdir()
    (draft / "bin" / "python").symlink_to(sys.executable)
    folder.complete(draft, FACTS)
    return draft


def test_a_full_disk_is_told_before_anything_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_worker.runtime_install.install.free_bytes", lambda _: 459 * 10**6)
    told: list[str] = []
    installation = Installation(
        Order("3.3.2", None, "x"), Path(sys.executable), Source(), RuntimeFolder(tmp_path), Settings(), told.append
    )
    with pytest.raises(InstallFailed, match="disk: 460 MB are needed"):
        installation.run()
    assert "459 MB are free" in told[0]
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_an_installer_gets_the_workers_proxy_with_its_password(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("p/w:d@\n")
    settings = Settings(proxy_url="http://proxy:3128", proxy_user="me", proxy_password_file=password)
    full = "http://me:p%2Fw%3Ad%40@proxy:3128"
    assert proxy_variables(settings, {"HTTPS_PROXY": "http://other", "NO_PROXY": "*"}) == {
        "https_proxy": full,
        "http_proxy": full,
        "no_proxy": "",
    }
    assert proxy_variables(Settings(), {"ALL_PROXY": "http://u:p@all:1", "no_proxy": "mirror"}) == {
        "https_proxy": "http://u:p@all:1",
        "http_proxy": "http://u:p@all:1",
        "no_proxy": "mirror",
    }
    assert proxy_variables(Settings(), {"NO_PROXY": "x"}) == {}


def test_an_installer_gets_nothing_of_ours_and_installs_nowhere_else() -> None:
    environ = {
        "PATH": "/bin",
        "PIP_INDEX_URL": "https://u:p@mirror",
        "PIP_TARGET": "/elsewhere",
        "PIP_USER": "1",
        "EDGE_WORKER_ENROLL_TOKEN": "ere_secret",
        "PYTHONPATH": "/x",
        "HTTPS_PROXY": "http://proxy",
    }
    assert installer_environment(environ) == {"PATH": "/bin", "PIP_INDEX_URL": "https://u:p@mirror"}
    assert "p@" not in str(Source(index_url="https://u:p@mirror/simple"))


RETRIED = (
    "2026-11-22T20:00:00,001 WARNING: Retrying (Retry(total=1, connect=None)) after connection broken by "
    "'NewConnectionError('<pip>: Failed to establish a new connection')': /simple/x/\n"
)


@pytest.mark.parametrize(
    ("log", "layer", "advice"),
    [
        (
            "Tunnel connection failed: 407 Proxy Authentication Required\nERROR: No matching distribution found",
            "proxy",
            "407",
        ),
        ("OSError('Tunnel connection failed: 403 Forbidden')", "proxy", "mirror"),
        ("ProxyError('Cannot connect to proxy.', NewConnectionError(...))", "proxy", "proxy_url"),
        ("Could not fetch URL https://m/: connection error: Max retries exceeded", "index", "--wheels"),
        ("ERROR: 401 Client Error: Unauthorized for url: https://m/", "index", "netrc"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "TLS", "ca_file"),
        (RETRIED + "ERROR: No matching distribution found for foo==1", "wheels", "--python"),
        (RETRIED + "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "hashes", "do not install it"),
        ("ERROR: In --require-hashes mode, all requirements must", "lock", "make it again"),
        ("OSError: [Errno 28] No space left on device", "disk", "--dir"),
        (
            "ERROR: Cannot install a and b because these package versions have conflicting dependencies.",
            "versions",
            "lock",
        ),
        ("ensurepip is not available", "Python", "apt install python3-venv"),
        ("\x1b[31mERROR: something else", "installation", "install.log"),
        ("", "installation", "install.log"),
    ],
)
def test_the_layer_is_told_from_what_pip_says(log: str, layer: str, advice: str) -> None:
    """Soak tests have a real pip say some of it. A try that was repeated is not the fault."""
    fault = explain(log)
    assert fault.layer == layer
    assert advice in fault.advice
    assert "\x1b" not in fault.detail
