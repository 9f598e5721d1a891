"""Ways to show a Trace: one file each."""
