"""mlspec: a compiler from a YAML model spec to a running model service."""

__version__ = "0.1.0"
