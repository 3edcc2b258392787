"""Write requirements.lock, and the pins of environment.yml, from the environment this runs in.

`make lock` calls it in a fresh environment with the package and its extra test; simulate and notebooks stay out.
What torch requires for GPUs (nvidia-*, cuda-*, triton) stays out: it depends on the platform, and torch's own
metadata pins it exactly; listed here, the lock would not install on a Mac.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("test",)
LEFT_TO_TORCH = re.compile(r"(nvidia-.*|cuda-.*|triton)")
PIN = re.compile(r"^(\s*- )([a-z0-9-]+)==(\S+)(  # (.*))?$", re.MULTILINE)


def closure(name: str, extras=()) -> set[str]:
    """Names of all that a package needs on this platform, by installed metadata."""
    found, todo = set(), [(canonicalize_name(name), frozenset(extras))]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in found or LEFT_TO_TORCH.fullmatch(name):
            continue
        found.add((name, extras))
        for line in metadata.requires(name) or ():
            need = Requirement(line)
            if any(need.marker is None or need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                todo.append((canonicalize_name(need.name), frozenset(need.extras)))
    return {name for name, _ in found}


def main() -> None:
    """Pin everything, with the reasons of environment.yml beside the direct dependencies."""
    names = sorted(closure("cm3t", EXTRAS) - {"cm3t"})
    versions = {name: metadata.version(name).split("+")[0] for name in names}
    environment = ROOT / "environment.yml"
    text = environment.read_text(encoding="utf-8")
    reasons = {name: reason for _, name, _, _, reason in PIN.findall(text)}
    if unknown := sorted(set(reasons) - set(versions)):
        sys.exit(f"environment.yml pins what the package does not need: {', '.join(unknown)}")
    environment.write_text(
        PIN.sub(lambda found: f"{found[1]}{found[2]}=={versions[found[2]]}{found[4] or ''}", text), encoding="utf-8"
    )
    lines = [
        "# Everything that `make study` and `make test` install, exactly; written by `make lock`, not by hand.",
        "# GPU libraries are left to torch, which pins them itself for each platform. The simulator is an extra.",
    ]
    for name, version in versions.items():
        lines.append(f"{name}=={version}" + (f"  # {reasons[name]}" if reasons.get(name) else ""))
    (ROOT / "requirements.lock").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(names)} packages pinned, {len(reasons)} of them direct")


if __name__ == "__main__":
    main()
