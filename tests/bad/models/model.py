"""A module for the bad specs: never run."""
