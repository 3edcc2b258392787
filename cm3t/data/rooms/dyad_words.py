"""What is said in rooms-dyad: our own grammar and lexicon. A sentence speaks for one pole of openness or conscience.

Who is low on a trait says what the low pole says; nothing is denied. Many words are shared between the poles and the
tasks, so that no single word gives a person away.
"""

from __future__ import annotations

import numpy as np

# What a task is about: fills {x}.
TOPICS = {
    "talk": ("my weekend", "our street", "the music last night", "that film", "the holiday", "cooking at home",
             "my new job", "the old market", "the garden", "this city"),
    "animals": ("the owl", "my animal", "the next clue", "that big whale", "the one with stripes", "a small lizard",
                "the tail", "the forest one", "the colour of it", "the sound it makes"),
    "lego": ("the tower", "this brick", "the roof", "the little wheel", "the blue part", "the left wing",
             "the bridge", "the base", "the tiny door", "the next step"),
    "ghost": ("the ghost", "the next card", "the red bottle", "this round", "the grey mouse", "the green chair",
              "the last point", "the blue book", "that picture", "the pile"),
}  # fmt: skip
# Poles: (trait, sign) -> clauses. Verbs are such that every topic fits.
CLAUSES = {
    ("O", 1): (
        "I keep imagining {x} as a poem", "I wonder what {x} could mean", "let us invent a story about {x}",
        "{x} makes me curious about everything", "I would paint {x} in strange colours",
        "maybe {x} is a symbol of something deeper", "I dream of {x} in a new light",
        "let us try something unusual with {x}", "I love the mystery of {x}",
        "there is a whole theory hidden in {x}", "I picture {x} on another planet", "think of {x} as an experiment",
    ),
    ("O", -1): (
        "I like {x} the usual way", "let us keep {x} plain and simple", "{x} should stay as it always was",
        "I prefer {x} ordinary and familiar", "{x} is fine the normal way", "my family always did {x} like this",
        "let us do the same as before with {x}", "I trust the old rule about {x}", "{x} is a practical matter",
        "{x} is nothing special", "the standard answer works for {x}", "I take {x} just as it comes",
    ),
    ("C", 1): (
        "I planned {x} step by step", "first I sort everything for {x}", "let us check {x} twice",
        "I made a list for {x}", "{x} has to be finished on time", "I prepared {x} carefully",
        "I measure {x} exactly", "my notes on {x} are in order", "{x} is on my schedule",
        "we need a clear system for {x}", "every detail of {x} must be right", "I work on {x} until it is done",
    ),
    ("C", -1): (
        "I forgot about {x} again", "let us just guess {x}", "{x} can wait until later", "I lost my notes on {x}",
        "my mess is all over {x}", "I will do {x} at the last minute", "let us skip the boring part of {x}",
        "roughly is good enough for {x}", "I throw {x} together somehow", "I am late with {x} as ever",
        "we can improvise {x}", "I got distracted from {x}",
    ),
}  # fmt: skip
# Openers that lean weakly on E, A or N.
OPENERS = {
    ("E", 1): ("hey", "oh great", "listen everybody", "ha"),
    ("E", -1): ("well", "hm", "so", "perhaps"),
    ("A", 1): ("thank you", "good point", "of course", "with pleasure"),
    ("A", -1): ("come on", "nonsense", "look", "my turn"),
    ("N", 1): ("oh dear", "I am worried", "careful", "oh no"),
    ("N", -1): ("easy", "all good", "fine", "no stress"),
}  # fmt: skip
SUPERVISOR = ("Please begin when you are ready.", "You may start now.", "Go ahead, the cameras are running.")


def chance(cue: float, slope: float) -> float:
    """Probability of the high pole, logistic in the cue."""
    return 1 / (1 + np.exp(-slope * cue))


def sentence(
    task: str, cues: dict[str, float], traits: dict[str, float], rng: np.random.Generator, *, word_slope: float,
    opener_share: float, opener_slope: float, used: set[str],
) -> str:  # fmt: skip
    """One sentence of a person; clauses in ``used`` are avoided while others are left, and the chosen one is added."""
    trait = "OC"[int(rng.integers(2))]
    pole = 1 if rng.random() < chance(cues[f"words_{trait.lower()}"], word_slope) else -1
    fresh = [c for c in CLAUSES[trait, pole] if c not in used] or list(CLAUSES[trait, pole])
    clause = fresh[int(rng.integers(len(fresh)))]
    used.add(clause)
    text = clause.format(x=TOPICS[task][int(rng.integers(len(TOPICS[task])))])
    if rng.random() < opener_share:
        other = "EAN"[int(rng.integers(3))]
        sign = 1 if rng.random() < chance(traits[other], opener_slope) else -1
        opener = OPENERS[other, sign]
        text = f"{opener[int(rng.integers(len(opener)))]}, {text}"
    return text[0].upper() + text[1:] + "."
