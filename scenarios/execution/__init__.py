"""How arms are executed: in this process, on worker processes, on Ray; and how they are stopped."""
