"""Graph to graph: pullback (reverse), pushforward (forward), simplification."""
