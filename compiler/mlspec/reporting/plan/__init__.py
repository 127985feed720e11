"""A plan as people see it: on a terminal, as JSON, as a page, and one value's story."""
