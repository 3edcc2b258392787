"""What a kitchen script sounds like: its touches, knocks and machines (see sound.py for how they are made)."""

from __future__ import annotations

import numpy as np

from cm3t.data.rooms.kitchen_script import Motion, Script
from cm3t.data.rooms.kitchen_world import FIXTURES, Dials
from cm3t.data.rooms.sound import Hum, Knock, render_sound

STRAY = ("wood", "metal", "ceramic", "plastic")


def _knocks_of(motion: Motion, rng: np.random.Generator) -> list[Knock]:
    fixture, at = FIXTURES[motion.fixture], motion.contact
    if motion.kind == "reach":  # a touch now and then
        return [Knock(at, fixture.material, 0.1)] if motion.depth > 0.9 else []
    found = [Knock(at, fixture.material, float(rng.uniform(0.08, 0.2)))]
    middle, end = 0.5 * (at + motion.release), motion.release
    strong = float(rng.uniform(0.5, 1.0))
    if fixture.kind in ("door", "drawer"):
        found.append(Knock(at + 0.05, f"rub:{fixture.material}", strong))
        shuts = motion.after == 0
        found.append(
            Knock(end - 0.08, fixture.material, strong) if shuts else Knock(at + 0.04, "plastic", 0.3 * strong)
        )
    elif fixture.kind == "knob":
        found.append(Knock(middle, "plastic", 0.4 * strong))
        if fixture.machine == "hob" and motion.after > 0:  # the igniter
            found += [Knock(middle + 0.08 * k, "switch", 0.25) for k in range(3)]
    elif fixture.kind == "switch":
        found.append(Knock(middle, "switch", 0.8 * strong))
    elif fixture.kind == "button":
        found += [Knock(middle, "plastic", 0.4 * strong), Knock(middle + 0.02, "beep", 0.6)]
    elif fixture.kind == "lever":
        found.append(Knock(middle, "metal", 0.2 * strong))
    elif motion.target is None:  # taken up
        found.append(Knock(at + 0.1, f"rub:{fixture.material}", strong))
    else:
        found.append(Knock(end - 0.05, fixture.material, strong))
        if motion.origin is not None:
            found.append(Knock(at + 0.1, f"rub:{fixture.material}", 1.5 * strong))
    return found


def sound_of(script: Script, dials: Dials) -> np.ndarray:
    """The recording's sound, float32 (S,) at ``dials.sound_rate``."""
    rng = np.random.default_rng([script.seed, 17])
    knocks = [knock for motion in script.motions for knock in _knocks_of(motion, rng)]
    knocks += [Knock(r.off, "beep", 0.8) for r in script.runs if r.by_itself and r.machine == "microwave"]
    stray = rng.poisson(dials.stray_sounds * script.duration)
    knocks += [
        Knock(float(rng.uniform(0, script.duration)), str(rng.choice(STRAY)), float(rng.uniform(0.05, 0.35)))
        for _ in range(stray)
    ]
    hums = [Hum(r.machine, r.on, r.off) for r in script.runs]
    return render_sound(
        knocks, hums, script.duration, rate=dials.sound_rate, seed=script.seed, voice=script.participant.voice,
        level=dials.machine_level, room=dials.room_noise,
    )  # fmt: skip
