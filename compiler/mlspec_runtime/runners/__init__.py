"""The runner of this bundle: a folder with `runtime.py`, which has `create(context)`."""
