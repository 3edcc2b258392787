"""Transcripts: SRT and plain text -> utterances -> tokens, through a sentence encoder that can be exchanged.

The default encoder hashes word and character n-grams: no weights, no training, the same numbers in every process.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cm3t.coerce import coerce, known_options

WIDTH = 256  # of the hashing encoder's sentence vectors
TIMING = re.compile(r"\s*(\d{1,3}):([0-5]?\d):([0-5]?\d)(?:[.,](\d{1,3}))?\s*-->\s*"
                    r"(\d{1,3}):([0-5]?\d):([0-5]?\d)(?:[.,](\d{1,3}))?(?:\s.*)?", re.ASCII)  # fmt: skip
SPEAKER = re.compile(r"\s*(?:[-\u2010-\u2015]\s*)?(?:(PART(?:ICIPANT)?)[. _-]?([12])|(SUPERVISOR))\s*[:\uff1a]\s*(.*)",
                     re.ASCII | re.IGNORECASE)  # fmt: skip
TAG = re.compile(r"</?[a-z][^<>]*>|\{\\[^{}]*\}", re.ASCII | re.IGNORECASE)  # <i>, <font ..>, {\an8}: how it looks
NUMBER = re.compile(r"\s*\d+\s*", re.ASCII)
BROKEN = re.compile(r"\s*\d{1,3}:\d{1,2}:\d{1,2}[.,:]?\d*\s*-?\s*", re.ASCII)  # a time, and no second one
BEGUN = re.compile(r"\s*\d{1,3}(:\d{0,2}){0,2}[.,]?\d*\s*-?\s*", re.ASCII)  # at the end of a file: less than that
SPOILT = re.compile(r"\W*\d+\W*[a-z]?\W*", re.ASCII | re.IGNORECASE)  # "2.", "#2", "2x": nearly a number
CLOCK = r"\d{1,3}(?::\d{1,2}){2}(?:[.,:]\d+)?"
PAIR = re.compile(rf"\s*{CLOCK}\W+(?:gt\W+)?{CLOCK}\s*", re.ASCII)  # whatever the arrow is: "->", "--&gt;", a blank
ARROW = re.compile(r"\s*[^\d\s-]\D*-->\D*[^\d\s>]\s*", re.ASCII)  # "go --> there": said, no time


WORDS = {"encoder": "hashing", "length": 8, "encoding": "utf-8-sig"}
FORMS = (".srt", ".txt")  # of two transcripts of one recording the first is read: it has times


def word_options(words: Mapping[str, object] | Sequence[tuple] | None = None) -> dict:
    """How transcripts are read, `WORDS` but for what is given: encoder, as `sentence_encoder` takes it, length, the
    tokens of a clip, and encoding of the files.

    Errors: ValueError for another name, with the nearest, and for a length that is no whole number of at least 1.
    """
    options = WORDS | known_options("words", words, WORDS)
    options["length"] = coerce("words: length", options["length"], "int")
    if options["length"] < 1:
        raise ValueError(f"words: length={options['length']} must be at least 1")
    return options


class TranscriptError(ValueError):
    """A transcript that cannot be used: the message names the file, the line, what is wrong and the remedy."""


@dataclass(frozen=True)
class Utterance:
    """What one person says: start and stop in seconds, speaker "PART.1", "PART.2", "SUPERVISOR" or "", one line.

    place: where it stands in its file, as "cue 4, line 14".
    """

    start: float
    stop: float
    speaker: str
    text: str
    place: str = field(default="", compare=False)


def read_srt(path: str | Path, *, encoding: str = "utf-8-sig") -> list[Utterance]:
    """The utterances of a subtitle file, by start. A byte order mark and every kind of line end are accepted.

    Accepted too: cues that overlap, are out of order, have no text (left out), no number or no blank line between
    them; text of several lines, where a line with a speaker of its own begins a new utterance; a dash before a speaker
    and a full-width colon behind. Tags are left out.
    Errors: FileNotFoundError; TranscriptError for another encoding, a file without a line, a malformed, backward or
    cut off time, another arrow between two, a cue's number that is damaged, and text that belongs to no cue.
    """
    return parse_srt(_read(path), str(path), encoding=encoding)


def read_transcript(path: str | Path, *, encoding: str = "utf-8-sig") -> list[Utterance]:
    """The utterances of a file: `read_text` where its name ends with .txt, else `read_srt`. Errors: as those."""
    read = read_text if Path(path).suffix.lower() == ".txt" else read_srt
    return read(path, encoding=encoding)


def read_text(path: str | Path, *, encoding: str = "utf-8-sig") -> list[Utterance]:
    """The utterances of a plain text file, one a line; without times, so that every window holds all of them.

    Errors: FileNotFoundError; TranscriptError for another encoding.
    """
    lines = _lines(_read(path), str(path), encoding)
    return _utterances(0.0, float("inf"), lines, 1)


def parse_srt(data: bytes, name: str = "transcript", *, encoding: str = "utf-8-sig") -> list[Utterance]:
    """As `read_srt`, of a file's bytes; `name` stands in the errors."""
    lines = _lines(data, name, encoding)
    if not any(line.strip() for line in lines):
        raise TranscriptError(
            f"{name}: line 1: the file is empty; copy it again, or take it away if nothing was written"
        )
    cut = _cut_off(lines)
    if cut is not None:
        number = NUMBER.fullmatch(lines[cut])
        what = f"cue {lines[cut].strip()} has no time" if number else f"{_short(lines[cut])} is half of a time"
        raise TranscriptError(f"{name}: line {cut + 1}: {what}: the file is cut off or damaged; copy it again")
    marks = [i for i, line in enumerate(lines) if PAIR.fullmatch(line) or ("-->" in line and not ARROW.fullmatch(line))]
    heads = [i - bool(i and NUMBER.fullmatch(lines[i - 1])) for i in marks]
    spoilt = _spoilt(lines, [i for i, head in zip(marks, heads, strict=True) if i == head])
    if spoilt is not None:
        raise TranscriptError(
            f"{name}: line {spoilt + 1}: {_short(lines[spoilt])} stands where a cue has its number: write digits, "
            "or a blank line behind it if somebody says so"
        )
    stray = next((i for i, line in enumerate(lines[: heads[0] if heads else None]) if line.strip()), None)
    if stray is not None:
        raise TranscriptError(
            f"{name}: line {stray + 1}: {_short(lines[stray])} stands before any time; "
            "a cue is a number, a line 00:00:01,000 --> 00:00:02,500 and its text"
        )
    found = []
    for number, (mark, head, end) in enumerate(zip(marks, heads, [*heads, len(lines)][1:], strict=True), 1):
        start, stop = _times(lines[mark], f"{name}: line {mark + 1}")
        cue = f"cue {lines[head].strip() if head < mark else number}, "
        found += _utterances(start, stop, lines[mark + 1 : end], mark + 2, cue)
    return sorted(found, key=lambda cue: (cue.start, cue.stop))


def _spoilt(lines: Sequence[str], bare: Sequence[int]) -> int | None:
    """The first line that is nearly a number where one would stand: above a time without one, below nothing."""
    above = (i - 1 for i in bare if i and not (i > 1 and lines[i - 2].strip()))
    return next((i for i in above if SPOILT.fullmatch(lines[i])), None)


def _cut_off(lines: Sequence[str]) -> int | None:
    """The line with half of a time, where a cue begins: after nothing or a blank line, or after a number that is.

    At the end of a file also the number of a next cue; another number there is what somebody says.
    """
    stripped = ["", "", *map(str.strip, lines)]
    last, following = max(i for i, line in enumerate(stripped[2:]) if line), 1 + sum("-->" in line for line in lines)
    for i, line in enumerate(stripped[2:]):
        before, above = stripped[i : i + 2]
        begins = not above or (not before and NUMBER.fullmatch(above))
        ended = i == last and BEGUN.fullmatch(line) and (not NUMBER.fullmatch(line) or int(line) == following)
        if begins and (BROKEN.fullmatch(line) or ended):
            return i
    return None


def _read(path: str | Path) -> bytes:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no transcript at {path}")
    return Path(path).read_bytes()


def _lines(data: bytes, name: str, encoding: str) -> list[str]:
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    if encoding.startswith("utf-8") and (wide or b"\0" in data):
        what = "is UTF-16" if wide else "holds a zero byte, so it is UTF-16 or no text"
        line = 1 if wide else _line_of(data, data.index(b"\0"))
        raise TranscriptError(f"{name}: line {line}: the file {what}; save it as UTF-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TranscriptError(
            f"{name}: line {_line_of(data, error.start)}: byte {error.start} is no {encoding}; give "
            "encoding='cp1252' or 'latin-1' (or what it was written in), or save it as UTF-8"
        ) from None
    except LookupError:
        raise TranscriptError(f"{name}: no encoding is called {encoding!r}; give 'utf-8' or 'latin-1'") from None
    return re.split("\r\n|\r|\n", text.replace("\ufeff", ""))  # files that were joined have more than one mark


def _line_of(data: bytes, place: int) -> int:
    return 1 + len(re.findall(rb"\r\n|\r|\n", data[:place]))


def _times(line: str, where: str) -> tuple[float, float]:
    match = TIMING.fullmatch(line)
    if match is None:
        raise TranscriptError(f"{where}: {_short(line)} is no time; write 00:00:01,000 --> 00:00:02,500")
    parts = [match.groups()[i : i + 4] for i in (0, 4)]
    start, stop = (int(h) * 3600 + int(m) * 60 + int(s) + float(f".{f or 0}") for h, m, s, f in parts)
    if stop < start:
        raise TranscriptError(f"{where}: stops at {stop:g} s, before its start {start:g} s; correct the times")
    return start, stop


def _short(line: str) -> str:
    return repr(line[:40]) + ("..." if len(line) > 40 else "")


def _utterances(start: float, stop: float, lines: Sequence[str], first: int, cue: str = "") -> list[Utterance]:
    """Lines of one cue, the first of this number: each with a speaker begins an utterance, the others continue it."""
    spoken: list[tuple[str, int, list[str]]] = []
    plain = stop == float("inf")
    for number, line in enumerate(lines, first):
        match = SPEAKER.fullmatch(line := TAG.sub("", line))
        if match:
            spoken.append((f"PART.{match[2]}" if match[1] else "SUPERVISOR", number, [match[4]]))
        elif spoken and not plain:
            spoken[-1][2].append(line)
        elif line.strip():
            spoken.append(("", number, [line]))
    joined = [(speaker, " ".join(" ".join(texts).split()), f"{cue}line {number}") for speaker, number, texts in spoken]
    return [Utterance(start, stop, speaker, text, place) for speaker, text, place in joined if text]


def count_nameless(utterances: Sequence[Utterance], path: str | Path) -> int:
    """How many utterances of a file have no speaker, so that nobody is heard to say them; the first is warned of.

    Errors: TranscriptError where none has one.
    """
    nameless = [said for said in utterances if not said.speaker]
    if nameless and len(nameless) == len(utterances):
        raise TranscriptError(f"{path}: no line tells who speaks; begin each with PART.1: or PART.2:")
    if nameless:
        first = nameless[0]
        warnings.warn(
            f"{path}: {first.place}: {_short(first.text)} does not tell who speaks (so {len(nameless)} of "
            f"{len(utterances)} utterances): PART.1:, PART.2: or SUPERVISOR: is expected before the words; write it "
            "there, or nobody is heard to say them",
            stacklevel=4,
        )
    return len(nameless)


class HashingEncoder:
    """Sentences by their words, word pairs and character n-grams, hashed into `width` numbers.

    An n-gram adds +-(1 + log count) to the place and with the sign that its CRC-32 gives; vectors have length 1, and
    a sentence without letters or digits is zero. Words and pairs weigh `words` times as much as character n-grams.
    Shapes: n sentences -> float32 (n, width).
    """

    def __init__(self, width: int = WIDTH, *, characters: tuple[int, ...] = (3, 4), words: float = 2.0):
        if width < 1:
            raise ValueError(f"width={width} must be at least 1")
        self.width, self.characters, self.words = width, characters, words

    @property
    def name(self) -> str:
        """How `sentence_encoder` calls it."""
        return f"hashing:{self.width}"

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Encode: n sentences -> float32 (n, width)."""
        out = np.zeros((len(sentences), self.width), np.float64)
        for row, sentence in zip(out, sentences, strict=True):
            for gram, (count, weight) in self._grams(sentence).items():
                code = _code(gram)
                row[(code >> 1) % self.width] += (1 - 2 * (code & 1)) * weight * (1 + np.log(count))
            row /= max(float(np.linalg.norm(row)), 1e-12)
        return torch.from_numpy(out.astype(np.float32))

    def _grams(self, sentence: str) -> dict[str, tuple[int, float]]:
        words = re.findall(r"[^\W_]+", sentence.casefold())
        whole = Counter(f"w {w}" for w in words) + Counter(f"p {a} {b}" for a, b in zip(words, words[1:], strict=False))
        parts = Counter(f"c {t[i : i + n]}" for t in (f" {w} " for w in words) for n in self.characters
                        for i in range(len(t) - n + 1))  # fmt: skip
        return {g: (c, self.words) for g, c in whole.items()} | {g: (c, 1.0) for g, c in parts.items()}


@lru_cache(maxsize=200_000)
def _code(gram: str) -> int:
    return zlib.crc32(gram.encode("utf-8", "surrogatepass"))


class SentenceTransformerEncoder:
    """A model of the package sentence-transformers, by name or folder; multilingual ones exist. Imported on first use.

    It is never trained, and no count of parameters has it: its sentences are features, as extracted ones are.
    Shapes: n sentences -> float32 (n, width). Errors: ImportError, with what to install.
    """

    def __init__(self, model: str, *, device: str = "cpu"):
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise ImportError(
                "the sentence encoder needs a package that is not installed: pip install sentence-transformers; "
                'or take the default, encoder="hashing"'
            ) from None
        self.name = f"sentence-transformers:{model}"
        self._model = SentenceTransformer(model, device=device)
        self.width = int(self._model.get_sentence_embedding_dimension())

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Encode: n sentences -> float32 (n, width)."""
        if not sentences:
            return torch.zeros(0, self.width)
        vectors = self._model.encode(list(sentences), show_progress_bar=False, normalize_embeddings=True)
        return torch.as_tensor(np.asarray(vectors, np.float32))


def sentence_encoder(spec: str | Callable[[Sequence[str]], Tensor] = "hashing"):
    """An encoder by name: "hashing", "hashing:512" (its width), "sentence-transformers:MODEL"; others are handed on.

    Anything that maps n sentences to float32 (n, d) and has `width` d is an encoder. Errors: ValueError, ImportError.
    """
    if not isinstance(spec, str):
        if not callable(spec) or not hasattr(spec, "width"):
            raise ValueError(f"a sentence encoder maps n sentences to (n, d) and has `width` d; got {spec!r}")
        return spec
    kind, _, rest = spec.partition(":")
    if kind == "hashing" and (not rest or rest.isdecimal()):
        return HashingEncoder(int(rest or WIDTH))
    if kind == "sentence-transformers" and rest:
        return SentenceTransformerEncoder(rest)
    raise ValueError(
        f"unknown sentence encoder {spec!r}; known are hashing, hashing:WIDTH, sentence-transformers:MODEL"
    )


def utterance_tokens(
    utterances: Sequence[Utterance], start: float, stop: float, encoder, *, speaker: str = "", length: int = 8
) -> Tensor:
    """One token an utterance that overlaps the window [start, stop) and is by the speaker ("": by anybody).

    Shapes: -> float32 (length, encoder.width), in time order. Fewer utterances leave zeros behind them (all zero:
    nothing was said, which is not the same as no transcript); of more, neighbours are averaged into `length` tokens.
    Errors: ValueError where the encoder gives something else than (n, encoder.width) for n sentences.
    Choice: the paper does not say how a transcript becomes tokens. Averaging keeps every word and the order.
    """
    texts = [
        u.text
        for u in utterances
        if (not speaker or u.speaker == speaker) and u.start < stop and (u.stop > start or u.start >= start)
    ]
    tokens = torch.zeros(length, encoder.width)
    if texts:
        vectors = encoder(texts).to(torch.float32)
        expected = (len(texts), encoder.width)
        if vectors.shape != expected:
            raise ValueError(
                f"the sentence encoder {getattr(encoder, 'name', encoder)} gave {tuple(vectors.shape)} for "
                f"{len(texts)} sentences, and its `width` says {expected}: correct what it returns, or its `width`"
            )
        if len(texts) > length:
            parts = np.array_split(np.arange(len(texts)), length)
            vectors = torch.stack([vectors[part].mean(0) for part in map(torch.from_numpy, parts)])
        tokens[: len(vectors)] = vectors
    return tokens
