"""A Trace read by one who knows what goes wrong: the cause of a failed run, and findings on one that succeeded."""
