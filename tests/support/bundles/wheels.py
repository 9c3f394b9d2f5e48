"""Wheels for tests, made by hand."""

import zipfile
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, code: str, *, requires: str | None = None) -> None:
    """A wheel with one module, and a package beside the providers of Airflow."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    needs = "" if requires is None else f"Requires-Dist: {requires}\n"
    files = {
        f"{name}.py": code,
        f"airflow/providers/{name}/__init__.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-cli = {name}:main\n",
    }
    record = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)
