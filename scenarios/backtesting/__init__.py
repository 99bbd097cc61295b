"""The back-test: models of one log side by side in three tasks, without a closed loop."""
