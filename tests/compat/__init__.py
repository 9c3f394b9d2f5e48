"""Documents as each released version wrote them, which every later version must read."""
