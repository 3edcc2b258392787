"""What is trained: a method written as words joined by `+`, parsed into a specification of plugins.

The words: `full`, `scratch`, `linear`, `adaptformer`, `pt`, `mhva`; and how side modalities join, `caa`, `mmca` or
`late`, after any of them. `adaptformer+cells+scale+norm` climbs the ladder from AdaptFormer to MHVA one factor at a
time. No tensors here: `model.py` builds from it.
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
    time_cells: int = 1  # cells along time
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
    the 392-token windows of the paper's clip, and the backbone's own `prefix_length` elsewhere; no dropout, the paper
    telling neither its own nor what it is lower than.
    """

    length: int | None = None  # l, prefix tokens a block
    activation: str = "relu"  # on E W_k and E W_v
    dropout: float = 0.0  # of the prefix's keys and values, in training


@dataclass(frozen=True)
class CrossSpec:
    """How side modalities join: cross-attention adapters beside the MLP (`caa`), or what they are compared with.

    Paper: Sec. 3.3. Choice: the text's roles (query and value from vision, key from the side) do not fit together as
    plain attention; `double` is the reading that keeps them (`plugins.caa`).
    """

    kind: str = "caa"  # caa; mmca: sequential cross-attention; late: classifiers of their own, logits added
    form: str = "double"  # of caa: double | standard (key and value from the side) | token_gate
    join: str = "fusion"  # of caa: fusion | add
    source: str = "bottleneck"  # of caa: the MHVA's bottleneck, or "generic": an own down-projection of norm2(x)
    stages: tuple[int, ...] | None = None  # of caa, mmca: only in these stages of the backbone, counted from 1
    reduction: int = 4  # C over the width of the attention
    up: str = "each"  # each modality its up-projection; "shared": the fusion's is the only one
    output: bool = False  # one more r x r projection behind the attention
    affine: bool = False  # the norm of the bottleneck has a gain and a shift of its own, as that of the side tokens
    scale: float = 1.0  # where the learned scale starts

    def width(self, channels: int) -> int:
        """Width of the attention in a block of C channels."""
        return max(1, channels // self.reduction)


@dataclass(frozen=True)
class Method:
    """A parsed method: which parameters train, and which plugins are attached."""

    name: str  # words in the order of the table below, joined by +
    trains: str  # head | plugins | all | scratch (all, from random weights)
    adapter: AdapterSpec | None = None
    prefix: PrefixSpec | None = None
    cross: CrossSpec | None = None

    @property
    def vision(self) -> "Method":
        """The method without its side modalities: what the first of two training steps trains."""
        words = [word for word in self.name.split("+") if word not in CROSS]
        return replace(self, name="+".join(words), cross=None)


ALONE = {"full": "all", "scratch": "scratch", "linear": "head"}
# Choice: AdaptFormer's own r = 64, but never above half the width of a narrow block.
ADAPTERS = {
    "adaptformer": AdapterSpec(cells=1, bottleneck=64, reduction=2, learnable_scale=False, input="raw"),
    "mhva": AdapterSpec(),
}
LADDER = {"cells": {"cells": 2}, "scale": {"learnable_scale": True}, "norm": {"input": "norm"}}
CROSS = ("caa", "mmca", "late")
WORDS = (*ALONE, *ADAPTERS, *LADDER, "pt", *CROSS)

ADAPTER_OVERRIDES = {
    "cells": "cells",
    "bottleneck": "bottleneck",
    "reduction": "reduction",
    "learnable_scale": "learnable_scale",
    "scale": "scale",
    "adapter_input": "input",
    "match_cells": "match_cells",
}
PREFIX_OVERRIDES = {"prefix_length": "length", "activation": "activation", "prefix_dropout": "dropout"}
CROSS_OVERRIDES = {"caa_form": "form", "caa_join": "join", "caa_source": "source", "caa_stages": "stages"}
OVERRIDES = (*ADAPTER_OVERRIDES, *PREFIX_OVERRIDES, *CROSS_OVERRIDES)
CHOICES = {
    "caa_form": ("double", "standard", "token_gate"),
    "caa_join": ("fusion", "add"),
    "caa_source": ("bottleneck", "generic"),
}

_DECOUPLED = {"source": "generic", "up": "shared", "affine": True}
# Paper: gives no widths. Choice: three readings that print its 12.8, 22.3 and 28.9 % on Video Swin-B where side tokens
# are 1024 wide. `eight` comes nearest, `decoupled` alone can also be built without an MHVA (109.5, 116.1 %).
PRESETS = {
    "default": {},
    "eight": {
        "adapter": {"time_cells": 2, "reduction": 8},
        "prefix": {"length": 30},
        "cross": {"output": True},
    },
    "decoupled": {"cross": _DECOUPLED},
}


def parse_method(words: str, *, preset: str = "default", **overrides) -> Method:
    """Turn `"mhva+pt+caa"` into a `Method`; an override of None leaves the method's own value.

    `preset` is one of PRESETS: `default`, `eight` (eight cells, two along time), `decoupled` (the cross-attention
    adapters have down-projections of their own, and share the fusion's up-projection).

    Raises ConfigError for an unknown word, words that exclude each other, and an override without its plugin.
    """
    found = _words(words)
    alone = next((word for word in found if word in ALONE), None)
    trains = ALONE[alone] if alone else "plugins"
    adapter, prefix = _adapter(found), PrefixSpec() if "pt" in found else None
    method = Method("+".join(found), trains, adapter, prefix, _cross(found))
    method = _override(
        _preset(method, preset),
        {name: value for name, value in overrides.items() if value is not None},
    )
    return _without_bottleneck(method, overrides.get("caa_source"))


def _words(words: str) -> list[str]:
    """The words in canonical order, each known, none twice, none in conflict."""
    found = [word.strip().lower() for word in str(words).split("+")]
    for word in found:
        if word not in WORDS:
            raise ConfigError(f"method {words!r}: unknown word {word!r}; {nearest(word, WORDS)}")
    if len(set(found)) < len(found):
        raise ConfigError(f"method {words!r}: a word stands twice; name each plugin once")
    vision = set(found) - set(CROSS)
    if len(set(found) & set(CROSS)) > 1:
        raise ConfigError(f"method {words!r}: {', '.join(CROSS)} are three ways to join modalities; choose one")
    if not vision:
        raise ConfigError(f"method {words!r}: say what adapts vision too: mhva+pt+{found[0]}, full+{found[0]}")
    if len(vision) > 1 and vision & set(ALONE):
        raise ConfigError(f"method {words!r}: {', '.join(ALONE)} each stand alone, or with one of {', '.join(CROSS)}")
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


def _cross(found: list[str]) -> CrossSpec | None:
    """How side modalities join, among the words."""
    return next((CrossSpec(kind=word) for word in found if word in CROSS), None)


def _preset(method: Method, name: str) -> Method:
    """The method with a preset's settings for the plugins it has."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; {nearest(name, PRESETS)}")
    parts = {part: getattr(method, part) for part in PRESETS[name]}
    return replace(method, **{k: replace(v, **PRESETS[name][k]) for k, v in parts.items() if v is not None})


def _override(method: Method, given: dict) -> Method:
    """Replace single fields of the plugins."""
    for name, value in given.items():
        if name not in OVERRIDES:
            raise ConfigError(f"unknown method setting {name!r}; {nearest(name, OVERRIDES)}")
        plugin = "adapter" if name in ADAPTER_OVERRIDES else "prefix" if name in PREFIX_OVERRIDES else "cross"
        if getattr(method, plugin) is None:
            what = "cross-attention (caa)" if plugin == "cross" else plugin
            raise ConfigError(f"{name}={value!r} was given, but method {method.name!r} has no {what}: leave it out")
        if value not in CHOICES.get(name, (value,)):
            raise ConfigError(f"{name}={value!r} is not known; {nearest(value, CHOICES[name])}")
    adapter, prefix, cross = (
        {fields[name]: value for name, value in given.items() if name in fields}
        for fields in (ADAPTER_OVERRIDES, PREFIX_OVERRIDES, CROSS_OVERRIDES)
    )
    if len({"bottleneck", "reduction"} & set(adapter)) == 1:  # one of the two given: it alone decides r
        adapter = {"bottleneck": None, "reduction": None} | adapter
    if adapter.get("match_cells") and (adapter.get("cells") or method.adapter.cells) > 1:
        raise ConfigError("match_cells widens one shared adapter; give cells=1 with it")
    return replace(
        method,
        adapter=replace(method.adapter, **adapter) if adapter else method.adapter,
        prefix=replace(method.prefix, **prefix) if prefix else method.prefix,
        cross=replace(method.cross, **_cross_settings(method, cross)) if cross else method.cross,
    )


def _cross_settings(method: Method, given: dict) -> dict:
    """Checked settings of the cross-attention."""
    kind = method.cross.kind
    fits = {"caa": set(CROSS_OVERRIDES.values()), "mmca": {"stages"}, "late": set()}[kind]
    if stray := set(given) - fits:
        names = ", ".join(f"caa_{name}" for name in sorted(stray))
        raise ConfigError(
            f"{names} was given, but {kind!r} of method {method.name!r} has no such setting: leave it out"
        )
    if "stages" in given:
        stages = tuple(sorted(given["stages"]))
        if not stages or any(not isinstance(stage, int) or stage < 1 for stage in stages):
            raise ConfigError(f"caa_stages={given['stages']!r}: name stages of the backbone from 1, such as (3, 4)")
        given = given | {"stages": stages}
    return given


def _without_bottleneck(method: Method, source: str | None) -> Method:
    """Where no adapter offers its bottleneck, the cross-attention is decoupled from it.

    An up-projection that is the fusion's alone needs the fusion: joined by plain addition, each keeps its own.
    """
    cross = method.cross
    if cross is None or cross.kind != "caa":
        return method
    if method.adapter is None:
        if source == "bottleneck":
            raise ConfigError(
                f"caa_source='bottleneck': method {method.name!r} has no adapter whose bottleneck could be read; "
                "add mhva, or leave it out"
            )
        cross = replace(cross, **_DECOUPLED)
    if cross.join == "add" and cross.up == "shared":
        cross = replace(cross, up="each")
    return replace(method, cross=cross)
