"""Words of messages that depend on what they tell of: one run, two runs; a Swin, an Eva."""

from collections.abc import Mapping, Sequence


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number and its noun: "1 run", "1,334 runs"; several: the plural, where an s at the end does not make it."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def listed(counts: Mapping[str, int]) -> str:
    """Counts and what they are of: "1,212 padded sound, 3 no sound there"."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())


def first_of(names: Sequence[str], most: int = 10) -> str:
    """The first of some names: "Shrug, Settle, .."."""
    return ", ".join(names[:most]) + (", .." if len(names) > most else "")


def kind_of(thing: object) -> str:
    """The type of a thing with its article: "a Swin", "an Eva"."""
    name = type(thing).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"
