"""What a command's exit code says."""

OK = 0
FINDINGS = 1
USAGE = 2
"""argparse's own, for arguments that it refuses."""
FAILED = 3
OUR_BUG = 4
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
