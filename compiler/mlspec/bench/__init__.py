"""Load on a running service: a client that costs little, what it measured, and how that is shown."""
