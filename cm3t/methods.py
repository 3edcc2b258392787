"""What is trained: a method written as words joined by `+`, parsed into a specification of plugins.

The words: `full`, `scratch`, `linear`, `adaptformer`, `pt`, `mhva`. `adaptformer+cells+scale+norm` climbs the
ladder from AdaptFormer to MHVA one factor at a time. No tensors here: `model.py` builds from it.
"""

from dataclasses import dataclass, replace

from cm3t.coerce import ConfigError, nearest


@dataclass(frozen=True)
class AdapterSpec:
    """A scaled parallel adapter beside the MLP of every block, Eq. 1-2 and, with cells, Eq. 6.

    Paper: Sec. 3.2. Choice: g x g spatial cells, r = C / 4, one scale an adapter that starts at 0.1, input
    after the frozen norm: a reading that fits the published 12.8 % (12.78 % on Video Swin-B, with PT).
    """

    cells: int = 2  # g: cells per side of the token map; 1 shares one adapter over the whole map
    bottleneck: int | None = None  # r in channels
    reduction: int | None = 4  # r as a divisor of C
    learnable_scale: bool = True  # Sec. 3.2.2, second change
    scale: float = 0.1  # s, or where s starts
    input: str = "norm"  # "norm": after the block's frozen norm2; "raw": the residual stream, as AdaptFormer
    dropout: float = 0.0
    match_cells: int | None = None  # one shared adapter with the parameters of this many cells per side

    def width(self, channels: int) -> int:
        """r for a block of C channels: `bottleneck`, or C // `reduction`; the smaller if both are given."""
        asked = [self.bottleneck] if self.bottleneck else []
        asked += [channels // self.reduction] if self.reduction else []
        return max(1, min(asked))


@dataclass(frozen=True)
class PrefixSpec:
    """Prefix tuning beside the attention of every block, Eq. 3-5.

    Paper: Sec. 3.2.2, third change: ReLU in place of tanh, lower dropout. Choice: `length` None takes 32 for
    the 392-token windows of the paper's clip, and the backbone's own `prefix_length` elsewhere.
    """

    length: int | None = None  # l, prefix tokens a block
    activation: str = "relu"  # on E W_k and E W_v
    dropout: float = 0.0


@dataclass(frozen=True)
class Method:
    """A parsed method: which parameters train, and which plugins are attached."""

    name: str  # words in the order of the table below, joined by +
    trains: str  # head | plugins | all | scratch (all, from random weights)
    adapter: AdapterSpec | None = None
    prefix: PrefixSpec | None = None


ALONE = {"full": "all", "scratch": "scratch", "linear": "head"}
# Choice: AdaptFormer's own r = 64, but never above half the width of a narrow block.
ADAPTERS = {
    "adaptformer": AdapterSpec(cells=1, bottleneck=64, reduction=2, learnable_scale=False, input="raw"),
    "mhva": AdapterSpec(),
}
LADDER = {"cells": {"cells": 2}, "scale": {"learnable_scale": True}, "norm": {"input": "norm"}}
WORDS = (*ALONE, *ADAPTERS, *LADDER, "pt")

ADAPTER_OVERRIDES = {
    "cells": "cells",
    "bottleneck": "bottleneck",
    "reduction": "reduction",
    "learnable_scale": "learnable_scale",
    "scale": "scale",
    "adapter_input": "input",
    "match_cells": "match_cells",
}
PREFIX_OVERRIDES = {"prefix_length": "length", "activation": "activation"}
OVERRIDES = (*ADAPTER_OVERRIDES, *PREFIX_OVERRIDES)


def parse_method(words: str, **overrides) -> Method:
    """Turn `"mhva+pt"` into a `Method`; an override of None leaves the method's own value.

    Raises ConfigError for an unknown word, words that exclude each other, and an override without its plugin.
    """
    found = _words(words)
    if found[0] in ALONE:
        method = Method(found[0], ALONE[found[0]])
    else:
        method = Method("+".join(found), "plugins", _adapter(found), PrefixSpec() if "pt" in found else None)
    return _override(method, {name: value for name, value in overrides.items() if value is not None})


def _words(words: str) -> list[str]:
    """The words in canonical order, each known, none twice, none in conflict."""
    found = [word.strip().lower() for word in str(words).split("+")]
    for word in found:
        if word not in WORDS:
            raise ConfigError(f"method {words!r}: unknown word {word!r}; {nearest(word, WORDS)}")
    if len(set(found)) < len(found):
        raise ConfigError(f"method {words!r}: a word stands twice; name each plugin once")
    if len(found) > 1 and set(found) & set(ALONE):
        raise ConfigError(f"method {words!r}: {', '.join(ALONE)} each stand alone")
    if set(ADAPTERS) <= set(found):
        raise ConfigError(f"method {words!r}: adaptformer and mhva are two forms of one adapter; choose one")
    if set(LADDER) & set(found) and "adaptformer" not in found:
        raise ConfigError(f"method {words!r}: {', '.join(LADDER)} modify adaptformer; write adaptformer+...")
    return sorted(found, key=WORDS.index)


def _adapter(found: list[str]) -> AdapterSpec | None:
    """The adapter among the words, with its steps of the ladder."""
    spec = next((ADAPTERS[word] for word in found if word in ADAPTERS), None)
    for word in found:
        if word in LADDER:
            spec = replace(spec, **LADDER[word])
    return spec


def _override(method: Method, given: dict) -> Method:
    """Replace single fields of the plugins."""
    for name in given:
        if name not in OVERRIDES:
            raise ConfigError(f"unknown method setting {name!r}; {nearest(name, OVERRIDES)}")
        plugin = "adapter" if name in ADAPTER_OVERRIDES else "prefix"
        if getattr(method, plugin) is None:
            raise ConfigError(
                f"{name}={given[name]!r} was given, but method {method.name!r} has no {plugin}: leave it out"
            )
    adapter = {ADAPTER_OVERRIDES[name]: value for name, value in given.items() if name in ADAPTER_OVERRIDES}
    if len({"bottleneck", "reduction"} & set(adapter)) == 1:  # one of the two given: it alone decides r
        adapter = {"bottleneck": None, "reduction": None} | adapter
    if adapter.get("match_cells") and (adapter.get("cells") or method.adapter.cells) > 1:
        raise ConfigError("match_cells widens one shared adapter; give cells=1 with it")
    prefix = {PREFIX_OVERRIDES[name]: value for name, value in given.items() if name in PREFIX_OVERRIDES}
    return replace(
        method,
        adapter=replace(method.adapter, **adapter) if adapter else method.adapter,
        prefix=replace(method.prefix, **prefix) if prefix else method.prefix,
    )
