"""Natural-looking text from a seed: Zipfian pseudo-words in sentence templates, joined from pools built once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain
from random import Random

_FUNCTION_WORDS = "the of and to in a that it is was for on with as this by be at from we not but or when which"
_ONSETS = "b c ch d f g gr h j k l m n p pr r s sh st t th tr v w"
_VOWELS = "a e i o u ai ea io ou é"
_CODAS = ("", "", "", "", "l", "m", "n", "r", "s", "t", "nd", "st")
_ENDINGS = ("", "", "", "", "s", "ed", "ing", "er", "al", "ly", "tion", "ness")
_HEADS = (
    "The {} {} the {} of {}, ",
    "We {} that {} {} was {} {} and ",
    "After the {} {}, {} {} ",
    "In {} {} the {} ",
    "Both {} and {} {} with {}, but ",
    "A {} {} {} by {}; ",
)
_TAILS = ("the {} {} {}. ", "which {} {} a {} {}. ", "{} it {} for the {} {}. ", "not every {} {}. ", "{} is {} to the {}. ")
_SENTENCE_CHARS = 115  # a head is 52 characters on average, two asides 21, a tail 42
_LINE_CHARS = 41
_CODE_LINES = (
    "    {} = self.{}({}, {})",
    "    if {} is None:",
    "    for {} in {}.{}:",
    "        return {}[{}]",
    "    {}.{}({}={})",
    "        raise {}Error({})",
    "    # {} the {} before {}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """Words from the commonest to the rarest, and the pools that running text and source code are joined from."""

    words: tuple[str, ...]
    asides: tuple[str, ...]
    heads: tuple[str, ...]
    tails: tuple[str, ...]
    code_lines: tuple[str, ...]


def seeded(*parts: object) -> Random:
    """Return the random source that belongs to these parts: the same parts give the same numbers on every machine."""
    return Random(":".join(map(str, parts)))  # noqa: S311 - sample data must be reproducible, never secret


@lru_cache(maxsize=4)
def build(seed: int, *, n_words: int = 16000, n_pieces: int = 24000) -> Lexicon:
    """Build the lexicon of a seed: about 0.2 s for the default sizes, kept for the next call."""
    rng = seeded("lexicon", seed)
    words = _words(rng, n_words)
    weights = list(accumulate(1 / (rank + 2.7) ** 0.8 for rank in range(n_words)))
    # content words: rarer, so that a clause reads like prose and not like a row of articles
    n_common = len(_FUNCTION_WORDS.split())
    content = [weight - weights[n_common - 1] for weight in weights[n_common:]]
    picks = iter(rng.choices(words[n_common:], cum_weights=content, k=13 * n_pieces))

    def fill(templates: Sequence[str], n: int) -> tuple[str, ...]:
        chosen = rng.choices(templates, k=n)
        return tuple(template.format(*(next(picks) for _ in range(template.count("{}")))) for template in chosen)

    return Lexicon(
        words=words,
        asides=tuple(f"{word} " for word in words),
        heads=fill(_HEADS, n_pieces),
        tails=fill(_TAILS, n_pieces),
        code_lines=fill(_CODE_LINES, n_pieces),
    )


def prose(lexicon: Lexicon, rng: Random, n_chars: int) -> str:
    """Return sentences of about `n_chars` characters (one sentence at least)."""
    n = 1 + n_chars // _SENTENCE_CHARS
    heads, tails = rng.choices(lexicon.heads, k=n), rng.choices(lexicon.tails, k=n)
    rare = iter(
        rng.choices(lexicon.asides, k=2 * n)
    )  # an even choice of words: with none zstd 1 makes text pages 0.35, with two 0.38
    parts = zip(heads, rare, rare, tails, strict=False)
    return "".join(chain.from_iterable(parts))[:-1]


def exact_prose(lexicon: Lexicon, rng: Random, n_chars: int) -> str:
    """Return text of exactly `n_chars` characters, so that it can take another text's place in a row."""
    return prose(lexicon, rng, n_chars + 160)[:n_chars].ljust(n_chars, ".")


def code(lexicon: Lexicon, rng: Random, n_chars: int) -> str:
    """Return about `n_chars` characters that look like source code."""
    return "\n".join(rng.choices(lexicon.code_lines, k=1 + n_chars // _LINE_CHARS))


def name(lexicon: Lexicon, rng: Random) -> str:
    """Return a proper name: two words, the rare as likely as the common."""
    first, second = rng.choices(lexicon.words, k=2)
    return f"{first.capitalize()} {second}"


def _words(rng: Random, n: int) -> tuple[str, ...]:
    found = dict.fromkeys(_FUNCTION_WORDS.split())
    onsets, vowels = _ONSETS.split(), _VOWELS.split()
    while len(found) < n:
        n_syllables = 1 + (len(found) > 300) + (rng.random() < 0.3)  # common words are short
        stem = "".join(rng.choice(onsets) + rng.choice(vowels) + rng.choice(_CODAS) for _ in range(n_syllables))
        found[stem + rng.choice(_ENDINGS)] = None
    return tuple(found)
