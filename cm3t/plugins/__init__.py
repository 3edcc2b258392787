"""The plugins: one idea a file; a plugin sees tensors, never a backbone."""

from cm3t.plugins.adapter import ParallelAdapter, from_tokens, to_tokens
from cm3t.plugins.caa import CAA, CrossAttentionAdapter, cross_attention
from cm3t.plugins.encoder import SideEncoder, side_encoder
from cm3t.plugins.fusion import AdapterFusion, add
from cm3t.plugins.mhva import MHVA, MultiHeadVisionAdapter, admissible_cells
from cm3t.plugins.mmca import MMCA, SequentialCrossAttention, pool_tokens
from cm3t.plugins.prefix import PrefixTuning, prefix_gate

__all__ = [
    "AdapterFusion",
    "CAA",
    "CrossAttentionAdapter",
    "MHVA",
    "MMCA",
    "MultiHeadVisionAdapter",
    "ParallelAdapter",
    "PrefixTuning",
    "SequentialCrossAttention",
    "SideEncoder",
    "add",
    "admissible_cells",
    "cross_attention",
    "from_tokens",
    "pool_tokens",
    "prefix_gate",
    "side_encoder",
    "to_tokens",
]
