"""Settings that contradict each other are refused with both names; no log line holds a local variable."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from pydantic import ValidationError

from edge_relay.serve import tls_context
from edge_relay.settings import Settings, SettingsError
from edge_service.logging import configure_logging


def test_urls_are_split_and_hold_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_NATS_URLS", "nats://a:4222, nats://b:4222")
    assert Settings().nats_urls == ("nats://a:4222", "nats://b:4222")
    with pytest.raises(ValidationError, match="RELAY_NATS_URLS must not contain credentials") as refused:
        Settings(nats_urls=("nats://relay:hunter2@a:4222",))
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"tls_cert_file": Path("c")}, "RELAY_TLS_KEY_FILE"),
        ({"tls_key_file": Path("k")}, "RELAY_TLS_CERT_FILE"),
        ({"gate_urls": ("http://keeper:1",)}, "RELAY_GATE_KEY_FILE"),
        ({"hold_s": 51.0}, "less than or equal to 50"),
        ({"nats_urls": ()}, "at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, object], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Settings.model_validate(values)


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_secrets_come_from_files(tmp_path: Path) -> None:
    file = tmp_path / "password"
    with pytest.raises(SettingsError, match="RELAY_NATS_PASSWORD_FILE is not set"):
        Settings().broker()
    with pytest.raises(SettingsError, match="No such file"):
        Settings(nats_password_file=file).broker()
    file.write_text(" \n")
    with pytest.raises(SettingsError, match="is empty"):
        Settings(nats_password_file=file).broker()
    file.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        Settings(nats_password_file=file).broker()
    file.write_text("hunter2\n")
    broker = Settings(nats_password_file=file).broker()
    assert broker.password == "hunter2"
    assert "hunter2" not in repr(broker)


def test_a_ca_file_for_nats_that_cannot_be_used(tmp_path: Path) -> None:
    """Found out at the start, not by a relay that never gets a connection."""
    password, file = tmp_path / "password", tmp_path / "ca.pem"
    password.write_text("x")
    with pytest.raises(SettingsError, match="RELAY_NATS_CA_FILE: can't use"):
        Settings(nats_password_file=password, nats_ca_file=file).broker()
    file.write_text("nothing")
    with pytest.raises(SettingsError, match="RELAY_NATS_CA_FILE: can't use"):
        Settings(nats_password_file=password, nats_ca_file=file).broker()


def test_files_that_hold_no_certificate(tmp_path: Path) -> None:
    file = tmp_path / "x.pem"
    file.write_text("nothing")
    with pytest.raises(SettingsError, match="RELAY_TLS_CERT_FILE"):
        tls_context(Settings(tls_cert_file=file, tls_key_file=file))


@pytest.fixture
def _restored_logging() -> object:
    root = logging.getLogger()
    handlers, level, config = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    # Not the defaults: Airflow, if a test before has imported it, has its own and breaks without it.
    structlog.configure(**config)


@pytest.mark.usefixtures("_restored_logging")
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_tracebacks_hold_no_values_of_variables(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", log_format)
    log = structlog.get_logger("test")

    def fail(password: str) -> None:
        copy = password + "!"
        raise RuntimeError(len(copy))

    try:
        fail("hunter" + str(2))
    except RuntimeError:
        log.exception("it_failed", queue="q")
        logging.getLogger("a.library").exception("failed too")
    log.debug("not shown")
    shown = capsys.readouterr().err
    assert "hunter2" not in shown
    assert shown.count("RuntimeError") >= 2
    assert "not shown" not in shown
    if log_format == "json":
        first = json.loads(shown.splitlines()[0])
        assert (first["event"], first["queue"], first["level"]) == ("it_failed", "q", "error")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_line_that_nobody_reads_any_more_fails_nothing(log_format: str) -> None:
    """The other end of standard error is closed, as when a log shipper has died."""
    code = (
        "import logging, structlog; from edge_service.logging import configure_logging; "
        f"configure_logging('info', {log_format!r}); "
        "structlog.get_logger('t').info('event', number=1); logging.getLogger('t').info('line'); print('went on')"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=write, check=False, timeout=30)
    os.close(write)
    assert done.stdout == b"went on\n"
