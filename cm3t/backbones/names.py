"""Published weights by name: where they are, and what to do where there is no network."""

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import getproxies

FILES = ("model.safetensors", "pytorch_model.bin")  # of a hub repository
_OPEN_CLIP = ("open_clip_model.safetensors", "model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_SWIN_RELEASE = "https://github.com/SwinTransformer/storage/releases/download/v1.0.4/"


@dataclass(frozen=True)
class Source:
    """Where a published file is: an address, a member of a torchvision weights enum, or a file of a hub repository."""

    url: str = ""
    torchvision: str = ""  # "Swin3D_T_Weights.KINETICS400_V1"
    repository: str = ""  # of huggingface.co
    timm: str = ""  # the name of timm's model, whose configuration names the repository
    files: tuple[str, ...] = FILES  # the first that exists

    def address(self) -> str:
        """The address to download from, by hand if need be."""
        if self.torchvision:
            from torchvision.models import video

            enum, _, member = self.torchvision.partition(".")
            return getattr(video, enum)[member].url
        if self.url:
            return self.url
        from huggingface_hub import hf_hub_url

        return hf_hub_url(self.hub(), self.files[0])

    def hub(self) -> str:
        """The repository on the hub, through timm's configuration where it is a timm model."""
        if not self.timm:
            return self.repository
        from timm.models import get_pretrained_cfg

        found = get_pretrained_cfg(self.timm).hf_hub_id
        return found + self.timm if found.endswith("/") else found


# The first of each is the usual one (`settings.PAPER_WEIGHTS`).
NAMED = {
    "video_swin_t": {"kinetics400": Source(torchvision="Swin3D_T_Weights.KINETICS400_V1")},
    "video_swin_s": {"kinetics400": Source(torchvision="Swin3D_S_Weights.KINETICS400_V1")},
    "video_swin_b": {
        "kinetics400": Source(torchvision="Swin3D_B_Weights.KINETICS400_V1"),
        "imagenet22k-kinetics400": Source(torchvision="Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1"),
    },
    "video_swin_b_ssv2": {"ssv2": Source(url=_SWIN_RELEASE + "swin_base_patch244_window1677_sthv2.pth")},
    "vivit_b": {"kinetics400": Source(repository="google/vivit-b-16x2-kinetics400")},
    "clip_b": {"openai": Source(timm="vit_base_patch16_clip_224.openai", files=_OPEN_CLIP)},
    "vit_b": {"imagenet21k-imagenet1k": Source(timm="vit_base_patch16_224.augreg_in21k_ft_in1k")},
}


PROTOCOLS = ("supervised", "contrastive")  # by which the mini backbones were pretrained
# What ships for a mini backbone, where it is not the supervised kind (`settings.PAPER_WEIGHTS` too).
SHIPPED = {"clip_mini": "contrastive"}


def called(backbone: str, name: str) -> str:
    """The name that "default" means: the usual one of the published, or the only one that ships; others as given."""
    usual = next(iter(NAMED.get(backbone, {})), SHIPPED.get(backbone, name))
    return usual if name == "default" else name


def folder() -> Path:
    """Where named weights are kept: torch's own cache of checkpoints (moved by TORCH_HOME)."""
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints"


IMAGE_MODELS = {  # timm's name of the network that a frame-wise backbone is
    "clip_mini": "vit_tiny_patch16_224",
    "clip_b": "vit_base_patch16_clip_quickgelu_224",
    "vit_b": "vit_base_patch16_224",
}


def source_of(backbone: str, name: str) -> Source | None:
    """Where the weights `name` of a backbone are: by a name of NAMED, the hub's "org/repository", timm's "arch.tag".

    None for what is no such name, and for timm's weights of another network (`refusal` says so).
    """
    if name in NAMED.get(backbone, {}):
        return NAMED[backbone][name]
    if Path(name).suffix in _SUFFIXES:
        return None
    name = name.removeprefix("timm/")  # the hub's folder of timm's models
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and name[0] not in "./":
        return Source(repository=name)
    return _of_timm(name) if refusal(backbone, name) is None else None


def _of_timm(name: str) -> Source | None:
    """Where timm's weights "arch.tag" are; None for what is no such name."""
    if not re.fullmatch(r"\w+\.\w+", name):
        return None
    from timm.models import get_pretrained_cfg

    try:
        found = get_pretrained_cfg(name)
    except RuntimeError:  # a tag that its model does not have
        return None
    files = tuple(dict.fromkeys((*FILES, *_OPEN_CLIP)))
    return Source(timm=name, files=files) if found and found.hf_hub_id else None


def refusal(backbone: str, name: str) -> str | None:
    """Why timm's weights of this name are not for a backbone, and what takes them; None where nothing is wrong.

    Files tell neither an activation nor a normalisation, so that those of another network would load, and mean
    something else.
    """
    source, own = _of_timm(name.removeprefix("timm/")), IMAGE_MODELS.get(backbone)
    if source is None or own is None or _network(source.timm) == _network(own):
        return None
    if source.hub() in {known.hub() for known in NAMED.get(backbone, {}).values()}:
        return None  # CLIP's own files go by two names, for two GELUs
    return (
        f"weights {name!r} are of timm's {_network(source.timm)}, {backbone} is a {_network(own)}: wrap theirs, "
        f'cm3t.backbones.wrap(timm.create_model("{source.timm}", pretrained=True), frames=8)'
    )


def pixels_trained_on(backbone: str, weights: str | Path | None) -> tuple[tuple, tuple] | None:
    """Mean and deviation (3 each) of the pixels that timm's weights of this name were trained on; None for others."""
    named = isinstance(weights, str) and not Path(weights).exists()
    source = source_of(backbone, called(backbone, weights)) if named else None
    if source is None or not source.timm:
        return None
    from timm.models import get_pretrained_cfg

    about = get_pretrained_cfg(source.timm)
    return tuple(about.mean), tuple(about.std)


def is_told(backbone: str, weights: str | Path) -> bool:
    """Does the name of weights tell how they were trained? It does of what ships or is published, and of timm's."""
    ours = ("default", *PROTOCOLS, *NAMED.get(backbone, {}))
    return str(weights) in ours or pixels_trained_on(backbone, weights) is not None


def assumed(backbone: str, pixels: tuple[tuple, tuple]) -> str:
    """What is taken to be so of a file that does not tell it: an activation, mean and deviation (3 each) of pixels."""
    mean, deviation = (", ".join(f"{n:.3g}" for n in numbers) for numbers in pixels)
    activation = "QuickGELU, " if "quickgelu" in IMAGE_MODELS.get(backbone, "") else ""
    return f"{activation}pixels of mean ({mean}) and deviation ({deviation})"


def _network(model: str) -> str:
    """timm's name of a network without its tag and the size of its images: vit_base_patch16."""
    return re.sub(r"_\d+$", "", model.partition(".")[0])


def place(backbone: str, name: str, source: Source) -> Path:
    """Where a file that was downloaded by hand is looked for."""
    return folder() / f"cm3t-{backbone}-{name.replace('/', '--')}{Path(source.address()).suffix}"


def local(backbone: str, name: str, source: Source) -> Path | None:
    """The file on this machine: put there by hand, in torch's cache from another library, in the hub's; else None."""
    path = place(backbone, name, source)
    places = [path.with_name(path.name.removesuffix(path.suffix) + suffix) for suffix in _SUFFIXES]
    if not source.hub():
        places.append(folder() / Path(urlparse(source.address()).path).name)
    if found := next((file for file in places if file.is_file()), None):
        return found
    if source.hub():
        from huggingface_hub import try_to_load_from_cache

        cached = (try_to_load_from_cache(source.hub(), file) for file in source.files)
        return next((Path(file) for file in cached if isinstance(file, str)), None)
    return None


def fetch(backbone: str, name: str, source: Source) -> Path:
    """The local file of the weights `name` of a backbone, downloaded if it is not there.

    Raises FileNotFoundError where it cannot be downloaded: what to download, and where to put it.
    """
    if found := local(backbone, name, source):
        return found
    address, path = source.address(), place(backbone, name, source)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:  # the libraries behind this raise many kinds: no network, no such file, refused
        _reach(address)
        return _from_hub(source) if source.hub() else _from_address(address, path)
    except Exception as error:
        others = f" (or there: {', '.join(source.files[1:])})" if source.hub() else ""
        raise FileNotFoundError(
            f"weights {name!r} of {backbone} could not be downloaded ({type(error).__name__}: {error}).\n"
            f"Where there is a network, download {address}{others}\n"
            f"and put it at {path}, or name the file: --weights FILE"
        ) from error


def _reach(address: str) -> None:
    """Raise OSError at once where the host cannot be reached: the hub's client would try for half a minute."""
    if not getproxies():
        socket.create_connection((urlparse(address).hostname, 443), timeout=10).close()


def _from_address(address: str, path: Path) -> Path:
    from torch import hub

    check = Path(address).stem.rpartition("-")[2]  # torchvision's file names end in their hash
    known = len(check) == 8 and all(c in "0123456789abcdef" for c in check)
    hub.download_url_to_file(address, str(path), hash_prefix=check if known else None, progress=False)
    return path


def _from_hub(source: Source) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for file in source.files:
        try:
            return Path(hf_hub_download(source.hub(), file))
        except LocalEntryNotFoundError:  # the network is gone: no other file will do either
            raise
        except EntryNotFoundError:
            continue
    raise FileNotFoundError(f"{source.hub()} has none of {', '.join(source.files)}")
