"""One page of a run to send to someone: a file of its own, which needs neither rimsim nor a network."""
