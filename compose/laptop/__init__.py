"""The smallest running system, without containers: everything on one machine, each part in a folder of its own.

`python -m laptop.up` starts it and stays; `python -m laptop.demo` starts it, runs a DAG, reports and stops. The
end-to-end tests use the same `LaptopSystem`.
"""
