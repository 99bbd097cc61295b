"""Models of the times and repetitions of consumption."""
