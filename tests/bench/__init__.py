"""Measured figures, printed: `make bench`. Ratios and CPU seconds can be compared; wall times depend on the machine."""
