"""How hot the computer is, and how much the service takes on because of it."""
