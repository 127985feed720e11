"""A package whose module imports one beside it."""
