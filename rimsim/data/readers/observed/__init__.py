"""Inside of :func:`rimsim.data.load_observed`: layouts of tables with a value for each (user, item) pair."""
