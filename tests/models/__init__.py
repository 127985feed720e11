"""The models of the tests: the tiny one that is shipped in specs/models, and SmolLM2-135M-Instruct."""
