"""Ground intensities λ(x): how much a user takes in the time to come."""
