"""Predictions: exact recursions, flows and their vector fields, closed forms. No torch in here."""

from .balanced import BalancedState, balance, white_balanced
from .closed_form import balanced_mode, crossing_time, scalar_mode, white_rank_one
from .decoupled import AlignedModes, aligned_modes, decoupled_modes
from .flow import gradient_flow
from .mean_flow import mean_flow
from .modified import modified_flow
from .necessary_conditions import necessary_conditions
from .one_layer import ExpectedRisk, expected_risk, one_layer, risk_by_mode
from .recursion import gradient_descent
from .stopping import OptimalStop, aligned_rates, optimal_stop
from .strength import mode_strength

__all__ = [
    "AlignedModes",
    "BalancedState",
    "ExpectedRisk",
    "OptimalStop",
    "aligned_modes",
    "aligned_rates",
    "balance",
    "balanced_mode",
    "crossing_time",
    "decoupled_modes",
    "expected_risk",
    "gradient_descent",
    "gradient_flow",
    "mean_flow",
    "mode_strength",
    "modified_flow",
    "necessary_conditions",
    "one_layer",
    "optimal_stop",
    "risk_by_mode",
    "scalar_mode",
    "white_balanced",
    "white_rank_one",
]
