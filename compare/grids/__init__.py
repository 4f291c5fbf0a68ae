"""Grids of nonlinear networks that ship as TOML files, each computed once per folder and kept there."""

from .dataset import grid_dataset, grid_names

__all__ = ["grid_dataset", "grid_names"]
