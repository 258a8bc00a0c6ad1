"""Functions that differentiate: compiled functions, transforms of functions, control flow."""
