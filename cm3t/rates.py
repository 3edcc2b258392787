"""Which learning rate a run takes: the sweep's, of itself or of the nearest that was tuned; else a default."""

from collections.abc import Mapping

from cm3t.methods import parse_method

# What has an entry of its own in results/tuning.json, beside data set, network and method; and the usual value.
RATED = {"weights": "default", "match_cells": None, "caa_form": None, "regime": "steps"}
# Choice: the paper names no learning rate. Used where results/tuning.json has none for the method.
UNTUNED_LR = {"head": 3e-3, "plugins": 1e-3, "all": 3e-4, "scratch": 1e-3}


def tuning_key(settings: Mapping) -> str:
    """The entry of results/tuning.json for settings by name: data, backbone, method, and what of RATED is not usual."""
    own = {name: settings.get(name) or usual for name, usual in RATED.items()}
    words = [f"{name}={value}" for name, value in own.items() if value != RATED[name]]
    return " ".join([f"{settings['data']}/{settings['backbone']}/{parse_method(settings['method']).name}", *words])


def tuned_lr(settings: Mapping, released: Mapping[str, Mapping]) -> float:
    """The learning rate of settings by name: that of the `released` sweep, else the default of the method's family."""
    key = released_key(settings, released)
    if key:
        return float(released[key]["lr"])
    method = parse_method(settings["method"])
    on_top = bool(settings["side"]) and settings["regime"] != "joint"  # then only modalities train, whatever vision did
    return UNTUNED_LR["plugins" if on_top else method.trains]


def released_key(settings: Mapping, released: Mapping[str, Mapping]) -> str | None:
    """The entry of the `released` sweep whose rate settings by name take, their own or an inherited one; else None.

    What was not tuned itself inherits: a form of attention, a widened adapter, other weights and modalities trained
    apart or end to end from the usual; end to end, where there is no such entry, from its vision, which it trains too.
    (From the usual first: cross-attention stands lower rates only, at vision's it may learn nothing.)
    """
    usual = {**settings, **RATED}
    tried = [settings, usual]
    if settings["regime"] == "joint":
        tried.insert(1, usual | {"regime": "joint"})
        tried.append(usual | {"method": parse_method(settings["method"]).vision.name})
    return next((key for key in map(tuning_key, tried) if key in released), None)
