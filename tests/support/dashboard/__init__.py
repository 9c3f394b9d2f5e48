"""A fake of the operators' API for the dashboard: the contract's models, a fleet that tests control, and a browser."""
