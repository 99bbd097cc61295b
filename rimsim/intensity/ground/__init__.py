"""Ground intensities λ(x): expected consumptions within the horizon."""
