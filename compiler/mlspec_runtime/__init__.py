"""The serve-time library of a bundle: HTTP, admission, errors and metrics around one runner.

It is copied into every bundle and imports nothing of the compiler that wrote the bundle.
"""

RUNTIME_API = 1
"""The version of the `runtime` block of plan.json that this library reads."""
