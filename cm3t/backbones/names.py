"""Published weights by name: where they are, and what to do where there is no network."""

from dataclasses import dataclass
from pathlib import Path

_SWIN_RELEASE = "https://github.com/SwinTransformer/storage/releases/download/v1.0.4/"


@dataclass(frozen=True)
class Source:
    """Where a published file is: an address, a member of a torchvision weights enum, or a file of a hub repository."""

    url: str = ""
    torchvision: str = ""  # "Swin3D_T_Weights.KINETICS400_V1"
    repository: str = ""  # of huggingface.co
    timm: str = ""  # the name of timm's model, whose configuration names the repository
    files: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")  # the first that exists

    def address(self) -> str:
        """The address to download from, by hand if need be."""
        if self.torchvision:
            from torchvision.models import video

            enum, _, member = self.torchvision.partition(".")
            return getattr(video, enum)[member].url
        return self.url or f"https://huggingface.co/{self.hub()}/resolve/main/{self.files[0]}"

    def hub(self) -> str:
        """The repository on the hub, through timm's configuration where it is a timm model."""
        if not self.timm:
            return self.repository
        from timm.models import get_pretrained_cfg

        found = get_pretrained_cfg(self.timm).hf_hub_id
        return found + self.timm if found.endswith("/") else found


NAMED = {
    "video_swin_t": {"kinetics400": Source(torchvision="Swin3D_T_Weights.KINETICS400_V1")},
    "video_swin_s": {"kinetics400": Source(torchvision="Swin3D_S_Weights.KINETICS400_V1")},
    "video_swin_b": {
        "kinetics400": Source(torchvision="Swin3D_B_Weights.KINETICS400_V1"),
        "imagenet22k-kinetics400": Source(torchvision="Swin3D_B_Weights.KINETICS400_IMAGENET22K_V1"),
    },
    "video_swin_b_ssv2": {"ssv2": Source(url=_SWIN_RELEASE + "swin_base_patch244_window1677_sthv2.pth")},
    "vivit_b": {"kinetics400": Source(repository="google/vivit-b-16x2-kinetics400")},
    "clip_b": {"openai": Source(timm="vit_base_patch16_clip_224.openai")},
    "vit_b": {"imagenet21k-imagenet1k": Source(timm="vit_base_patch16_224.augreg_in21k_ft_in1k")},
}


def folder() -> Path:
    """Where named weights are kept: torch's own cache of checkpoints (moved by TORCH_HOME)."""
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints"


def fetch(backbone: str, name: str) -> Path:
    """The local file of the published weights `name` of a backbone, downloaded if it is not there.

    Raises FileNotFoundError where it cannot be downloaded: what to download, and where to put it.
    """
    source = NAMED[backbone][name]
    address = source.address()
    path = folder() / f"cm3t-{backbone}-{name}{Path(address).suffix}"
    present = sorted(folder().glob(f"cm3t-{backbone}-{name}.*"))
    if present:
        return present[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _from_hub(source, path) if source.hub() else _from_address(address, path)
    except Exception as error:  # the libraries below raise many kinds: no network, no such file, refused
        raise FileNotFoundError(
            f"weights {name!r} of {backbone} could not be downloaded ({type(error).__name__}: {error}).\n"
            f"Where there is a network, download {address}\nand put it at {path}, or name the file: --weights FILE"
        ) from error


def _from_address(address: str, path: Path) -> Path:
    from torch import hub

    check = Path(address).stem.rpartition("-")[2]  # torchvision's file names end in their hash
    known = len(check) == 8 and all(c in "0123456789abcdef" for c in check)
    hub.download_url_to_file(address, str(path), hash_prefix=check if known else None, progress=False)
    return path


def _from_hub(source: Source, path: Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for file in source.files:
        try:
            return Path(hf_hub_download(source.hub(), file, etag_timeout=10))
        except LocalEntryNotFoundError:  # no network: no other file will do either
            raise
        except EntryNotFoundError:
            continue
    raise FileNotFoundError(f"{source.hub()} has none of {', '.join(source.files)}")
