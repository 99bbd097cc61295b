"""Reports of runs: records, their content, and their output."""
