"""The Grafana dashboards, one module each, written as code so that they have the same style.

`make docs` writes the JSON files in `compose/grafana/dashboards`, `make check` compares them. Never edit the JSON
files: change the module and run `make docs`.
"""
