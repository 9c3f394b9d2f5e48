"""A helper package of the DAGs here: it reaches the edge with them."""
