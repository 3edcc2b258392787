"""What a load did to a checkpoint, to be printed, logged and recorded."""

from dataclasses import asdict, dataclass, field

from cm3t.backbones.positions import Grid


@dataclass
class Report:
    """What became of a checkpoint on its way into a backbone; `print` it, or `line()` of it.

    layout        whose names the file has
    prefix        what stood before every name of the file, and was taken off
    mapped        tensors that went in
    dropped       the file's keys that have no place here (a head, a text tower, tables that the architecture tells)
    strange       how many of those are neither of a head nor such tables
    kept          parameters the file does not have, left as they start
    interpolated  what was resampled to another grid, with both shapes; spread over time too, if of an image model
    inflated      what was spread over time and nothing else, with both shapes
    widened       tensors of half precision, read as float32
    narrowed      tensors of double precision, stored as float32
    window        (T, H, W) of the file's attention windows, where a model with others had to interpolate their tables;
                  T is 1 of an image model
    assumed       what a file does not tell and was taken to be usual, in words
    protocol      by which a file of ours says that it was pretrained: supervised, contrastive
    digest        the first 16 hex digits of the file's sha256
    """

    layout: str
    prefix: str = ""
    mapped: int = 0
    dropped: list[str] = field(default_factory=list)
    strange: int = 0
    kept: list[str] = field(default_factory=list)
    interpolated: list[str] = field(default_factory=list)
    inflated: list[str] = field(default_factory=list)
    widened: int = 0
    narrowed: int = 0
    window: Grid | None = None
    assumed: str = ""
    protocol: str = ""
    digest: str = ""

    @property
    def plain(self) -> bool:
        """Did every tensor go in as it was, name included, but for a classifier and tables that need no file?"""
        changed = self.kept or self.interpolated or self.inflated or self.narrowed
        return not (self.prefix or self.strange or changed)

    @property
    def unusual(self) -> bool:
        """Does the file say that it was pretrained otherwise than supervised, which is usual here?"""
        return self.protocol not in ("", "supervised")

    def _parts(self, shown: int) -> list[str]:
        """What happened beside the mapping, a phrase each that names the first few tensors."""
        parts = [f"the prefix {self.prefix!r} of all names taken off"] * bool(self.prefix)
        for name in ("dropped", "kept", "interpolated", "inflated"):
            items = getattr(self, name)
            more = f" and {len(items) - shown} more" if len(items) > shown else ""
            parts += [f"{name} ({len(items)}): {', '.join(items[:shown])}{more}"] if items else []
        parts += [f"{self.narrowed} narrowed from float64 to float32"] * bool(self.narrowed)
        return parts + [f"assumed, for the file does not tell: {self.assumed}"] * bool(self.assumed)

    def __str__(self) -> str:
        lines = [f"{self.layout} layout: {self.mapped} tensors mapped; {self.widened} of the file's widened to float32"]
        return "\n  ".join(lines + self._parts(6))

    def line(self) -> str:
        """The same in one line, for a log."""
        widened = [f"{self.widened} of the file's widened to float32"] * bool(self.widened)
        trained = [f"pretrained by the protocol {self.protocol!r}"] * self.unusual
        return "; ".join([f"{self.layout} layout, {self.mapped} tensors mapped", *trained, *widened, *self._parts(2)])

    def brief(self) -> dict:
        """The same for a record; of long lists the first dozen, and how many there are."""
        found = asdict(self)
        for name, items in found.items():
            if isinstance(items, list) and len(items) > 12:
                found[name] = [*items[:12], f"and {len(items) - 12} more"]
        return found
