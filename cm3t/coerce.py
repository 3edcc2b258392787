"""Settings arrive as text from shells and papermill; here they become values, or an error with the remedy."""

import ast
import os
from difflib import get_close_matches


class ConfigError(ValueError):
    """A setting that cannot be right: the message says which, where it was given, and what would be."""


def nearest(word: str, known) -> str:
    """The remedy's last words: the closest known name if there is one, then all of them."""
    known = sorted(known)
    close = get_close_matches(str(word), known, n=1, cutoff=0.5)
    return (f"did you mean {close[0]!r}? " if close else "") + f"known: {', '.join(known)}"


def known_options(name: str, given, known) -> dict:
    """Options {word: value} that are given as a mapping, as pairs or not at all (None), every word a known one."""
    try:
        found = dict(given or {})
    except (TypeError, ValueError):
        raise ConfigError(f"{name}={given!r} holds no options; give a mapping of any of {', '.join(known)}") from None
    for word in found:
        if word not in known:
            raise ConfigError(f"{name}: unknown option {word!r}; {nearest(word, known)}")
    return found


def coerce(name: str, value, kind: str):
    """Make `value` the type named `kind` ("int", "float | None", "tuple[str, ...]") or raise ConfigError."""
    kind, optional = kind.replace(" ", "").removesuffix("|None"), "None" in kind
    if value is None or (optional and str(value).strip().lower() in ("none", "null", "")):
        if optional:
            return None
        raise ConfigError(f"{name}=None: a value of type {kind} is needed; leave {name} out for its default")
    kind = kind if kind in KINDS else kind.split("[")[0]
    convert, example = KINDS[kind]
    try:
        return convert(value)
    except (ValueError, TypeError, SyntaxError):
        raise ConfigError(f"{name}={value!r} is not of type {kind}; write for example {example}") from None


def _to_int(value) -> int:
    number = float(value)
    if isinstance(value, bool) or number != int(number):
        raise ValueError
    return int(number)


def _to_float(value) -> float:
    number = float(value)
    if isinstance(value, bool) or number != number:
        raise ValueError
    return number


def _to_bool(value) -> bool:
    word = str(value).strip().lower()
    if word not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError
    return word in ("true", "1", "yes")


def _to_str(value) -> str:
    if not isinstance(value, str | os.PathLike):
        raise ValueError
    return str(value)


def _to_list(value) -> list:
    if isinstance(value, str):
        literal = value.strip()[:1] in ("[", "(")
        value = ast.literal_eval(value) if literal else [word.strip() for word in value.split(",") if word]
    if not isinstance(value, list | tuple):
        raise ValueError
    return list(value)


def _to_dict(value) -> dict:
    if isinstance(value, str) and "=" in value and not value.strip().startswith("{"):
        value = {name.strip(): text.strip() for name, text in (word.split("=", 1) for word in value.split(","))}
    value = ast.literal_eval(value) if isinstance(value, str) else value
    if not isinstance(value, dict):
        raise ValueError
    return value


KINDS = {
    "int": (_to_int, "8"),
    "float": (_to_float, "1e-3"),
    "bool": (_to_bool, "true"),
    "str": (_to_str, "a word"),
    "list": (_to_list, "[0, 1]"),
    "tuple": (lambda value: tuple(_to_list(value)), "[0, 1]"),
    "tuple[int,...]": (lambda value: tuple(_to_int(one) for one in _to_list(value)), "3,4"),
    "dict": (_to_dict, "a=1,b=2"),
}
