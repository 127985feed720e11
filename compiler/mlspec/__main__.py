"""`python -m mlspec`."""

from mlspec.cli import entry

entry()
