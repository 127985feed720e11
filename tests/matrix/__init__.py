"""Twenty Macs by eight models: what is planned for each, as a table that a person can read."""
