"""Grids of nonlinear networks that ship as TOML files, each computed once per folder and kept there."""

from .dataset import as_grid, grid_dataset, grid_names, grid_path

__all__ = ["as_grid", "grid_dataset", "grid_names", "grid_path"]
