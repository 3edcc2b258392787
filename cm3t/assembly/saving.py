"""Saving and loading: all plugins of a model in one file, or one modality in a file of its own."""

import copy
import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from torch import Tensor, nn

from cm3t import __version__, backbones
from cm3t.assembly import plugin_file
from cm3t.backbones.weights import WeightsError, misfits
from cm3t.coerce import ConfigError
from cm3t.methods import ADAPTER_OVERRIDES, CROSS_OVERRIDES, PREFIX_OVERRIDES, PRESETS, Method, parse_method

OTHER_WEIGHTS = (
    "it was trained on other weights of this backbone, or with positions for clips of another size "
    "(check_weights=False loads anyway)"
)


class Saving:
    """The part of `CM3T` that reads and writes plugin files; tensors keep the shapes of the model's parameters."""

    def plugin_state_dict(self) -> dict[str, Tensor]:
        """What training made: plugins and heads, and the backbone too where the method trains it."""
        state = self.state_dict()
        return {k: v for k, v in state.items() if not (self.frozen and k.startswith("backbone."))}

    def load_plugin_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a `plugin_state_dict()`, strictly: WeightsError lists every key that does not fit.

        Copies of the heads, which training makes, are made or dropped as the state has them.
        """
        own = {k: v for k, v in self.plugin_state_dict().items() if not _is_copy(k)}
        wanted = {place for place in self._places_of_copies() if any(k.startswith(f"{place}.") for k in state)}
        for place in wanted:
            own |= {f"{place}.{k}": v for k, v in self.heads.state_dict().items()}
        problems = misfits(own, state)
        if problems:
            raise WeightsError(self._misfit(f"{len(problems)} keys", problems))
        for place, parent in self._places_of_copies().items():
            heads = copy.deepcopy(self.heads) if place in wanted else nn.ModuleDict()
            setattr(parent, place.rpartition(".")[2], heads)
        self._settle()
        self.load_state_dict(dict(state), strict=False)

    def save_plugins(self, path: str | Path) -> Path:
        """Write plugins and heads as safetensors with their description; whole or not at all."""
        about = self._description() | {"backbone_digest": self.backbone_digest() if self.frozen else None}
        return plugin_file.write(Path(path), self.plugin_state_dict(), about)

    def load_plugins(self, path: str | Path, *, check_weights: bool = True) -> None:
        """Load a file of `save_plugins`: strict, and refused for another backbone, method, heads or modalities.

        Raises WeightsError that says what differs, and the call that makes a model which the file fits.
        A file of the same method without its modalities (mhva+pt for mhva+pt+caa) loads what it has; the modalities
        and their heads stay as they are: that is how a second step of training starts from the first.
        `check_weights=False` accepts a backbone of the right name whose weights differ from those trained on.
        """
        about, tensors = plugin_file.read(Path(path))
        if "modality" in about:
            raise WeightsError(f"{path} holds the modality {about['modality']!r} alone; read it with load_modality")
        first = self.method.cross is not None and "cross" not in about["method"]
        own = self._description(self.method.vision if first else None)
        keys = ("backbone", "method", "heads") + ("modalities",) * (self.method.cross is not None and not first)
        problems = _differences(about, own, keys)
        if self.frozen and check_weights and not problems and about["backbone_digest"] != self.backbone_digest():
            problems = [OTHER_WEIGHTS]
        elif problems:
            problems.append(f"the file fits {_recipe(about)}")
        if problems:
            raise WeightsError(self._misfit(str(path), problems))
        if first:
            shared = ("side.", *_SHARED)
            tensors = tensors | {k: v for k, v in self.plugin_state_dict().items() if k.startswith(shared)}
        self.load_plugin_state_dict(tensors)

    def save_modality(self, name: str, path: str | Path) -> Path:
        """Write one modality (encoder, cross-attention, its own heads where it has them), or "fusion".

        "fusion" is what the modalities share: the fusion and the joint heads. ValueError for a name that is neither.
        """
        about = self._description() | {"modality": name}
        about["backbone_digest"] = self.backbone_digest() if self.frozen else None
        if name != "fusion":
            about["modalities"] = [entry for entry in about["modalities"] if entry["name"] == name]
        return plugin_file.write(Path(path), self._part(name), about)

    def load_modality(
        self, path: str | Path, *, name: str | None = None, heads: bool = True, check_weights: bool = True
    ) -> None:
        """Load a file of `save_modality`; a modality that the model does not have yet is added, the others stay.

        name   what to call it here, if not as in the file
        heads  False leaves its classifiers behind: for reuse on other classes
        check_weights   False accepts a backbone of the right name whose weights differ from those trained on

        Raises WeightsError, listing what differs, for another backbone, way of joining, width or set of heads; and for
        what a chain (MMCA) shares, if it was trained on other modalities or in another order.
        The vision plugins under it may differ from those it was trained on: that is what reuse means. A modality that
        a fusion has not met is warned of.
        """
        about, tensors = plugin_file.read(Path(path))
        if "modality" not in about:
            raise WeightsError(f"{path} holds a whole model; read it with load_plugins")
        if about["modality"] == "fusion" and name not in (None, "fusion"):
            raise ValueError(f"{path} holds what modalities share, which has no other name; leave out name={name!r}")
        name = name or about["modality"]
        if not heads:
            tensors = {k: v for k, v in tensors.items() if not k.startswith(_CLASSIFIERS)}
        problems, remedies = self._differences_of_part(name, about, tensors, check_weights)
        if problems:
            problems.append("; ".join((f"the file is of {_recipe(about)}", *remedies)))
            raise WeightsError(self._misfit(str(path), problems))
        spec = None
        if about["modality"] != "fusion":
            spec = about["modalities"][0]["spec"]
        elif not self.side:
            raise WeightsError(f"{path} holds what modalities share, and this model has none: add the modalities first")
        elif (met := _names(about)) and (strange := [other for other in self.side if other not in met]):
            told = f"{path} was trained on {', '.join(met)} and has not met {', '.join(strange)}"
            warnings.warn(f'{told}: weighed in at once; train_stage("fusion") teaches it', stacklevel=2)
        new = spec is not None and name not in self.side
        if new:
            self.add_modality(name, **spec)
        try:
            self._load_part(name, tensors, heads)
        except WeightsError:
            if new:
                self.remove_modality(name)
            raise

    def _differences_of_part(
        self, name: str, about: dict, tensors: Mapping[str, Tensor], check_weights: bool
    ) -> tuple[list[str], list[str]]:
        """What keeps a file of `save_modality` from being loaded as `name`, and what would help beside its own kind."""
        own = self._description()
        keys = ["backbone", "cross"] + ["heads"] * any(k.startswith(_CLASSIFIERS) for k in tensors)
        problems = _differences(*({**d, "cross": d["method"].get("cross")} for d in (about, own)), keys)
        remedies = ["heads=False leaves its classifiers"] * ("heads" in keys and about["heads"] != own["heads"])
        if not problems and check_weights and self.frozen and about.get("backbone_digest") is not None:
            problems += [OTHER_WEIGHTS] * (about["backbone_digest"] != self.backbone_digest())
        if about["modality"] == "fusion":
            met, here = _names(about), list(self.side)
            if self.sequential and met and here and met != here:
                problems.append(f"it was trained on {', '.join(met)} in this order; here are {', '.join(here)}")
                remedies.append("add the modalities in that order, by these names")
        elif name in self.side:
            spec, there = about["modalities"][0]["spec"], asdict(self.side[name].spec)
            if other := _differences({name: spec}, {name: there}, [name]):
                problems += other
                remedies.append(
                    f"read {name} as there, or remove_modality({name!r}) and load the file anew: it adds its own"
                )
        return problems, remedies

    def backbone_digest(self) -> str:
        """Digest of the backbone's parameters and buffers: unchanged by training where it is frozen."""
        return plugin_file.state_digest(self.backbone)

    def _part(self, name: str) -> dict[str, Tensor]:
        """The state of a modality, or of what the modalities share."""
        if name == "fusion":
            return {k: v for k, v in self.state_dict().items() if k.startswith(_SHARED)}
        if name not in self.side:
            raise ValueError(f"no modality {name!r} to save; there are {', '.join((*self.side, 'fusion'))}")
        return self.side[name].state_dict()

    def _load_part(self, name: str, tensors: dict[str, Tensor], heads: bool) -> None:
        """Load the state of a modality, or of what the modalities share; strict but for heads left out or added.

        With `heads` a copy of the heads is made or dropped as the state has it; without, the model's own stays.
        """
        parent, place = (self, "joint_heads") if name == "fusion" else (self.side[name], "heads")
        own = {k: v for k, v in self._part(name).items() if not k.startswith(f"{place}.")}
        own = {k: v for k, v in own.items() if k in tensors or not k.startswith(_CLASSIFIERS)}
        copied = any(k.startswith(f"{place}.") for k in tensors)
        own |= {f"{place}.{k}": v for k, v in self.heads.state_dict().items() if copied}
        if problems := misfits(own, tensors):
            raise WeightsError(self._misfit(f"{name}, {len(problems)} keys", problems))
        if heads:
            setattr(parent, place, copy.deepcopy(self.heads) if copied else nn.ModuleDict())
        self._settle()
        parent.load_state_dict(tensors, strict=False)

    def _places_of_copies(self) -> dict[str, nn.Module]:
        """Where copies of the heads stand, and in which module."""
        return {"joint_heads": self} | {f"side.{name}.heads": modality for name, modality in self.side.items()}

    def _misfit(self, what: str, problems: list[str]) -> str:
        here = f"{self.backbone.name} with method {self.method.name!r}"
        return f"{what}: no fit for {here}\n  " + "\n  ".join(problems)

    def _description(self, method: Method | None = None) -> dict:
        method = method or self.method
        about = {"cm3t": __version__, "backbone": self.backbone.name, "method": _described(method)}
        about["heads"] = {name: head.out_features for name, head in self.heads.items()}
        names = self.side if self.sequential else sorted(self.side)  # an order only where it matters
        about["modalities"] = [{"name": name, "spec": asdict(self.side[name].spec)} for name in names]
        return json.loads(json.dumps(about))  # tuples as they come back from a file


def _names(about: Mapping) -> list[str]:
    """The modalities that a file tells of, in the order of their training; what "fusion" met, where it tells."""
    return [entry["name"] for entry in about["modalities"]]


_PARTS = {"adapter": ADAPTER_OVERRIDES, "prefix": PREFIX_OVERRIDES, "cross": CROSS_OVERRIDES}
_SHARED = ("fusion.", "sequential.", "joint_heads.")
_CLASSIFIERS = ("heads.", "classifiers.", "joint_heads.")


def _is_copy(key: str) -> bool:
    return key.startswith("joint_heads.") or (key.startswith("side.") and key.split(".")[2] == "heads")


def _differences(file: Mapping, own: Mapping, keys: Iterable[str]) -> list[str]:
    """What a file's description says otherwise, a sentence a key; of two methods of one name, a sentence a setting."""
    found = []
    for key in keys:
        there, here = file.get(key), own.get(key)
        if key == "method" and there["name"] != here["name"]:
            there, here = there["name"], here["name"]
        if key in ("method", *_PARTS) and isinstance(there, Mapping) and isinstance(here, Mapping):
            inner = _differences(there, here, dict.fromkeys((*there, *here)))
            found += [line if key == "method" else f"{key}.{line}" for line in inner]
        elif there != here:
            found.append(f"{key} is {json.dumps(there)} in the file, {json.dumps(here)} here")
    return found


def _settings(method: Mapping, preset: str) -> dict:
    """What `parse_method` is to be given, beside the words, for a described method that is like a preset."""
    plain = _described(parse_method(method["name"], preset=preset))
    differ = {
        name: method[part][field]
        for part, names in _PARTS.items()
        for name, field in names.items()
        if method.get(part) and plain[part] and method[part].get(field) != plain[part][field]
    }
    return ({} if preset == "default" else {"preset": preset}) | differ


def _makes(method: Mapping, settings: Mapping) -> bool:
    try:
        return _described(parse_method(method["name"], **settings)) == method
    except ConfigError:
        return False


def _described(method: Method) -> dict:
    """A method as it stands in a file: tuples as they come back, and no modalities where there are none."""
    about = {name: value for name, value in asdict(method).items() if name != "cross" or value}
    return json.loads(json.dumps(about))


def _recipe(about: Mapping) -> str:
    """The call (and those of `add_modality`) whose model a description fits."""
    sides = [(one["name"], one["spec"]) for one in about.get("modalities", ())]
    added = [", ".join([repr(name), *(f"{k}={v!r}" for k, v in spec.items() if v is not None)]) for name, spec in sides]
    return _call(about) + "".join(f" with add_modality({one})" for one in added)


def _call(about: Mapping) -> str:
    """`create`, or `CM3T` for a network that `create` does not know: on the wrapped one where timm has that name."""
    name, words, heads = about["backbone"], repr(about["method"]["name"]), repr(about["heads"])
    tried = (_settings(about["method"], preset) for preset in PRESETS)
    settings = min(tried, key=lambda found: not _makes(about["method"], found))
    options = "".join(f", {option}={value!r}" for option, value in settings.items())
    if name in backbones.NAMES:
        return f"cm3t.create({name!r}, method={words}, heads={heads}{options})"
    method = f"cm3t.methods.parse_method({words}{options})" if options else words
    if import_module("timm").is_model(name):
        return f"cm3t.CM3T(cm3t.backbones.wrap(timm.create_model({name!r}), frames=8), {method}, {heads})"
    return f"cm3t.CM3T(BACKBONE, {method}, {heads}) on your BACKBONE {name!r}"
