"""What holds for every property: a machine that is busy with something else fails none of them.

`make test` runs few examples of each, others each time; the tests `..._for_long` run many in `make soak`.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("on-a-busy-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("on-a-busy-machine")
