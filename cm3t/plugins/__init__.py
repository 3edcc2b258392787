"""The plugins: one idea a file; a plugin sees tensors, never a backbone."""

from cm3t.plugins.adapter import ParallelAdapter
from cm3t.plugins.mhva import MHVA, MultiHeadVisionAdapter, admissible_cells
from cm3t.plugins.prefix import PrefixTuning, prefix_gate

__all__ = [
    "MHVA",
    "MultiHeadVisionAdapter",
    "ParallelAdapter",
    "PrefixTuning",
    "admissible_cells",
    "prefix_gate",
]
