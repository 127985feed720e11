"""A runner that answers from a table: the smallest model there is."""
