"""The worker's install stays small: it goes to machines that nobody can log in to."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
MAX_PACKAGES = 20
MAX_BYTES = 50_000_000


@pytest.mark.slow
def test_the_worker_alone_is_lean(tmp_path: Path) -> None:
    """Built as wheels and installed into an environment of its own, it has few packages, little size, and starts."""
    wheels = tmp_path / "wheels"
    for package in ("schemas", "edge_worker"):
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
        subprocess.run(build, cwd=REPOSITORY / package, check=True, capture_output=True)
    environment = tmp_path / "environment"
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    python = environment / "bin" / "python"
    built = [str(wheel) for wheel in wheels.glob("*.whl")]
    install = [uv, "pip", "install", "--quiet", "--python", str(python), "--constraint", "requirements.lock", *built]
    subprocess.run(install, cwd=REPOSITORY, check=True)

    listed = subprocess.run(
        [uv, "pip", "list", "--quiet", "--format", "freeze", "--python", str(python)],
        check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    assert len(listed) <= MAX_PACKAGES, listed
    site_packages = next((environment / "lib").iterdir()) / "site-packages"
    size = sum(file.stat().st_size for file in site_packages.rglob("*") if file.is_file())
    assert size <= MAX_BYTES

    version = subprocess.run(
        [str(environment / "bin" / "edge-worker"), "--version"], check=True, capture_output=True, text=True, env={}
    )
    assert version.stdout.strip()
