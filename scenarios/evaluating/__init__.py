"""Off-policy evaluation checked against the truth: a run is played again, and what it logs is valued for a target."""
