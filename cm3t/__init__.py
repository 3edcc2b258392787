"""CM3T: adapt a frozen video transformer to new data and new modalities by training small plugins.

The letters below mean the same thing in every docstring, einops pattern, notebook and test.

| symbol    | the paper's            | meaning and shape                                                              |
|-----------|------------------------|--------------------------------------------------------------------------------|
| B T H W   | -                      | batch, frames, height, width: of the clip (pixels) or of the token map         |
| C, D      | d                      | width of a block's tokens; of the pooled features                              |
| N         | n                      | tokens: T * H * W, or of one attention window                                  |
| x, y      | input, output          | what a layer or plugin reads; what the sum with it gives, Eq. 1, 3, 6 and 10   |
| h         | heads                  | attention heads; a classifier is a *head* too, MHVA's parts are *cells*        |
| g         | number of W's in Eq. 6 | MHVA's cells per side of the map: g * g cells, each with its own down and up   |
| r         | bottleneck dimension   | width between an adapter's down- and up-projection                             |
| z         | hidden state           | the bottleneck before its ReLU, x W_down (B, N, r): what a CAA reads of vision |
| a         | -                      | width of cross-attention (CAA) and of the fusion                               |
| s         | scaling factor, Eq. 1  | scale of an adapter's output: fixed (AdaptFormer) or learned (MHVA)            |
| l         | length of E            | prefix tokens a block, Eq. 3-5                                                 |
| E         | E                      | the learned prefix embedding (l, C)                                            |
| lambda    | gated addition, Eq. 3  | the share of a token's attention that goes to the prefix, Eq. 5                |
| M, L, d_m | N, -, -                | side modalities; tokens and width of one modality's embedding (B, L, d_m)      |

In einops patterns axes have lower-case letters: h there is the height of a map, or, beside d, heads. The public text of
the paper lacks all symbols of its equations 1-10: the letters and forms used here are reconstructed, as each docstring
says under `Choice:`.

Importing `cm3t` is light: torch is imported when a name that needs it is first used.
"""

import warnings
from importlib import import_module

# timm's downloads draw their progress by tqdm, which tells a notebook without ipywidgets so when it is first imported.
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"

_LAZY = {
    "create": "cm3t.model",
    "CM3T": "cm3t.model",
    "backbone": "cm3t.backbones",
    "cost_of": "cm3t.cost",
    "load_run": "cm3t.records",
    "results": "cm3t.records",
    "resolve": "cm3t.config",
}

__all__ = ["__version__", *sorted(_LAZY)]


def __getattr__(name: str):
    """Import the module behind a public name on first use (PEP 562)."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'cm3t' has no attribute {name!r}; public names are {', '.join(__all__)}")


def __dir__() -> list[str]:
    """The public names, so that tab completion finds the lazy ones."""
    return sorted(__all__)
