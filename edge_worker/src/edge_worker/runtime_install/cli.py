"""The commands `edge-worker runtime install` and `edge-worker runtime show`."""

import sys
from pathlib import Path
from typing import cast

from edge_schemas.life.versions import runtime_mismatch
from edge_worker.host_client.launcher import installed_airflow
from edge_worker.runtime_install.folder import Busy, RuntimeFolder
from edge_worker.runtime_install.install import Installation, Installed, InstallFailed, megabytes
from edge_worker.runtime_install.options import OWN, OwnOptions
from edge_worker.runtime_install.order import CentreUnknown, Order, ask_centre, order_by_hand, order_of
from edge_worker.runtime_install.source import Source, index_without_password
from edge_worker.settings import Settings, runtimes_dir
from edge_worker.settings_sources import load_settings

_FAILED = 1
_NOT_NOW = 5


def run(what: str, arguments: dict[str, object], *, config: Path | None) -> int:
    """Runs one of the two commands; returns the exit status.

    Raises:
        SettingsError: A setting or an option cannot be used.
        OSError: A folder can't be written.
    """
    own = cast("OwnOptions", {name: arguments.pop(name, None) for name in OWN})
    settings = load_settings(arguments, config=config)
    folder = RuntimeFolder((own["dir"] or runtimes_dir(settings.state_dir)).absolute())
    return _show(settings, folder) if what == "show" else _install(settings, folder, own)


def _install(settings: Settings, folder: RuntimeFolder, own: OwnOptions) -> int:
    wheels = own["wheels"] and own["wheels"].absolute()
    source = Source(wheels, own["index_url"] and index_without_password(own["index_url"]))
    python = (own["python"] or Path(sys.executable)).expanduser().absolute()
    try:
        order = order_by_hand(own["airflow_version"], own["lock"]) or order_of(ask_centre(settings))
        print(f"Airflow {order.airflow}, named by {order.named_by}.", flush=True)
        if order.lock is not None:
            print(f"Lock: {order.lock.requirements} requirements, sha256 {order.lock.digest}.", flush=True)
        done = Installation(order, python, source, folder, settings, lambda text: print(text, flush=True)).run()
    except (CentreUnknown, Busy) as error:
        print(f"edge-worker: {error}", file=sys.stderr)
        return _NOT_NOW
    except InstallFailed as error:
        print(f"edge-worker: not installed. {error}\n{error.fault.advice}", file=sys.stderr)
        if folder.current() is not None:
            print("The previous runtime is unchanged.", file=sys.stderr)
        return _FAILED
    _report(done, order, folder, settings)
    return 0


def _report(done: Installed, order: Order, folder: RuntimeFolder, settings: Settings) -> None:
    facts = done.facts
    if done.is_new:
        print(
            f"Installed Airflow {facts.airflow} for Python {facts.python}: {facts.packages} packages, "
            f"{megabytes(facts.size_bytes)}, in {facts.seconds:.0f} s."
        )
        print("A running agent uses it after a restart; running tasks continue in the runtime in which they began.")
    else:
        print(f"It has been installed since {facts.installed_at:%F}: nothing to do.")
    for path in done.kept:
        print(f"Kept, because processes still use it: {path}. The next installation removes it.")
    used = load_runtime_python(settings)
    if used != (folder.path / "current").resolve() / "bin" / "python":
        print(f"The worker uses {used}. To have it use this one: EDGE_WORKER_RUNTIME_PYTHON={folder.python}")
    if order.centre is None:
        print("It was not compared with the centre: 'edge-worker doctor' compares them.")


def load_runtime_python(settings: Settings) -> Path:
    """The interpreter that a worker would use now; the settings were read before the installation."""
    named = settings.model_fields_set - {"runtime_python"}
    values = settings.model_dump(include=named)
    if "runtime_python" in settings.model_fields_set:
        values["runtime_python"] = settings.runtime_python
    return Settings(**values).runtime_python


def _show(settings: Settings, folder: RuntimeFolder) -> int:
    known = folder.current()
    if known is None:
        print(f"No runtime is installed in {folder.path}: 'edge-worker runtime install' makes one.")
    else:
        path, facts = known
        for name, value in (
            ("folder", str(path)),
            ("airflow", facts.airflow),
            ("python", f"{facts.python} ({facts.base_python})"),
            ("lock", f"sha256 {facts.lock_sha256}" if facts.lock_sha256 else "none"),
            ("packages", str(facts.packages)),
            ("size", megabytes(facts.size_bytes)),
            ("source", facts.source),
            ("installed", f"{facts.installed_at:%F %H:%M} UTC, in {facts.seconds:.0f} s"),
        ):
            print(f"{name:<10}{value}")
    used = settings.runtime_python
    airflow = installed_airflow(used)
    print(f"{'worker':<10}uses {used}, which has {f'Airflow {airflow}' if airflow else 'no Airflow'}")
    return _compare(settings, airflow)


def _compare(settings: Settings, airflow: str | None) -> int:
    """Compares the runtime with the centre, if the centre can be asked."""
    try:
        centre = ask_centre(settings)
    except CentreUnknown as error:
        print(f"{'centre':<10}{error}")
        return 0
    fault = runtime_mismatch(airflow, centre.airflow_version)
    print(f"{'centre':<10}has Airflow {centre.airflow_version}{f': {fault}' if fault else ''}")
    return _FAILED if fault else 0
