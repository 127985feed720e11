"""OpenAI's API over the task `generate`: its requests become GenerateRequests, its answers are made of theirs."""
