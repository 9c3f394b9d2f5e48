"""The Grafana dashboards, one module each, written as code so that they stay alike.

`make docs` writes the JSON files in `compose/grafana/dashboards`, `make check` compares them. Never edit those: change
the module, write again.
"""
