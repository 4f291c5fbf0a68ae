"""Sweeps: one comparison for every cell of a grid and every seed, as one labelled Dataset, and statements about it."""
