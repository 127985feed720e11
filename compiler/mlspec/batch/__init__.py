"""`mlspec predict`: a bundle's model over a file, in a process of its own (`mlspec_runtime.batch`)."""
