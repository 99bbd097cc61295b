"""Ground intensities λ(x): expected consumptions of a user within the horizon."""
