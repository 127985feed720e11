"""Batch inference: a model of a bundle over all rows of a file, without HTTP (`python -m mlspec_runtime.batch`)."""
