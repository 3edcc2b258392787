"""The one dial: how much evidence a run gathers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """How much evidence to gather; which device does it is found, and recorded, not chosen here."""

    name: str
    purpose: str
    seeds: tuple[int, ...]
    train_clips: int | None  # None: all of them
    eval_clips: int | None
    epochs: int
    batch_size: int
    threads: int | None  # None: as torch finds
    deterministic: bool
    cell_timeout: int | None  # seconds a notebook cell may take; None: no limit
    workers: int | None = None  # processes that read clips as they are needed; None: all in memory first
    data: str | None = None  # None here and in the next line: the default of every run
    backbone: str | None = None


_PROFILES = (
    Profile(
        name="smoke", purpose="prove that it runs; teach shapes",
        seeds=(0,), train_clips=24, eval_clips=16, epochs=2, batch_size=8,
        threads=1, deterministic=True, cell_timeout=120,
    ),
    Profile(
        name="quick", purpose="the whole study on a laptop; two seeds decide nothing",
        seeds=(0, 1), train_clips=400, eval_clips=120, epochs=5, batch_size=16,
        threads=None, deterministic=False, cell_timeout=1800,
    ),
    Profile(
        name="full", purpose="decide the claims: the released numbers",
        seeds=(0, 1, 2, 3, 4), train_clips=None, eval_clips=None, epochs=12, batch_size=16,
        threads=None, deterministic=False, cell_timeout=None,
    ),
    # Paper: Sec. 4 names EPIC-KITCHENS-100 first and Video Swin-B as the backbone; Tables 1 and 4 give epochs to
    # converge (6 to 56), no batch size, one number a row.
    # Choice: 50 epochs, 64 clips a step, one seed, eight processes that read.
    Profile(
        name="paper", purpose="the paper's own settings, on the real data",
        seeds=(0,), train_clips=None, eval_clips=None, epochs=50, batch_size=64,
        threads=None, deterministic=False, cell_timeout=None, workers=8, data="epic", backbone="video_swin_b",
    ),
)  # fmt: skip
PROFILES = {profile.name: profile for profile in _PROFILES}
