"""The task `generate`: requests, answers and the engine of language models, without any framework."""
