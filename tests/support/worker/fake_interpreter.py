"""The interpreter of a fake runtime, as `examination.fake_interpreter` installs it: a program that needs no Airflow."""

import json
import socket
import sys


def _tell(airflow: str | None) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    sdk = "1.3.2" if airflow else None
    names = {"apache-airflow-core": airflow, "apache-airflow": airflow, "apache-airflow-task-sdk": sdk}
    sys.stdout.write(json.dumps({"python": version, **names}))


def _greet(airflow: str) -> None:
    settings = json.load(sys.stdin)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(settings["socket"])
        listener.listen()
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(json.dumps({"airflow": airflow, "pid": 1}).encode() + b"\n")


if __name__ == "__main__":
    if sys.argv[2] == "-c":
        _tell(sys.argv[1] or None)
    else:
        _greet(sys.argv[1])
