"""`make test` names at its end what passed only when it was run again, and counts each test once."""

import signal
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

import side_by_side

TESTS = {
    "flaky": """
        from pathlib import Path
        import pytest

        @pytest.mark.parametrize("value", [1, 2])
        def test_flaky(value):
            seen = Path(__file__).with_name("seen")
            again = seen.exists()
            seen.touch()
            assert again or value == 2

        def test_good(): pass
    """,
    "bad": """
        import pytest

        @pytest.fixture
        def late():
            yield
            assert False

        def test_bad(late): assert False
        def test_skipped(): pytest.skip()
    """,
    "leaky": """
        def test_leaves_something(request):
            request.config.add_cleanup(lambda: 1 / 0)
    """,
}


Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs files as parts; returns the lines below the table of costs, and the exit status."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # a start takes half of the time
    settings = tmp_path / "pytest.ini"
    settings.write_text("[pytest]\nmarkers =\n  soak\n  compose\n")

    def run_parts(*names: str) -> list[str]:
        files = [tmp_path / f"test_{name}.py" for name in names]
        for file, name in zip(files, names, strict=True):
            file.write_text(dedent(TESTS[name]))
        monkeypatch.setattr(side_by_side, "PARTS", [("-c", str(settings), str(file)) for file in files])
        status = side_by_side.main([])
        lines = capfd.readouterr().out.partition("in all")[2].splitlines()[1:]
        return [*(line.strip() for line in lines if line), f"status {status}"]

    return run_parts


@pytest.mark.timeout(180)
def test_a_flaky_test_is_named_and_fails_nothing(run: Run) -> None:
    title, name, numbers, status = run("flaky")
    assert (title, name) == ("1 passed only when run again, alone:", "test_flaky.py::test_flaky[1]")
    assert numbers.startswith("3 passed, 1 of the passed only when run again in ")
    assert status == "status 0"


@pytest.mark.timeout(180)
def test_a_failed_test_is_counted_once_and_an_error_behind_the_last_test_is_one(run: Run) -> None:
    """Nothing is run again after such an error: a second run without it would hide it."""
    title, name, numbers, status = run("bad", "leaky")
    assert (title, name) == ("1 failed:", "test_bad.py::test_bad")
    assert numbers.startswith("1 failed, 1 passed, 1 skipped in ")
    assert status == "status 1"


@pytest.mark.timeout(180)
def test_an_error_behind_the_last_test_fails_the_whole(run: Run) -> None:
    numbers, status = run("leaky")
    assert numbers.startswith("1 passed in ")
    assert status == "status 1"
