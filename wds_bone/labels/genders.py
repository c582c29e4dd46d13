"""Read genders: what the words of a gender column mean, and whether they can be trusted.

In: the text of a cell, or how often each text occurs in a column; `--gender-words`.
Out: F or M.
Invariant: a gender is never guessed. A word means what the built-in words, the name of a flag column or the user say;
a table whose words belong to another vocabulary is refused as a whole, because H and M (hombre and mujer) would
otherwise turn all girls into boys.
"""

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args

from wds_bone.errors import ConfigError, LabelError
from wds_bone.labels.values import Flag, Gender

_MALE = ("m", "male", "boy", "boys", "男", "男性")
_FEMALE = ("f", "female", "girl", "girls", "女", "女性")
# Spreadsheets write true and false in the language of their user.
_TRUE = ("1", "true", "yes", "y", "wahr", "vrai", "verdadero", "verdadeiro", "vero", "waar")
_FALSE = ("0", "false", "no", "n", "falsch", "faux", "falso", "onwaar")
_FLAGS = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)
_BUILT_IN: dict[str, Gender] = {**dict.fromkeys(_MALE, "M"), **dict.fromkeys(_FEMALE, "F")}
_WHOLE_FLOAT = re.compile(r"\A([0-9]+)[.,]0+\Z")
# A word that is this common and more common than one of the genders is not a typing error.
_COMMON_WORD = 10
_NUM_SHOWN = 6
_MAX_WORDS = 1000
WordCounts = dict[str, tuple[str, int]]
"""The texts of a gender column, each with the location of its first row and the number of its rows."""
_WORDS_EXAMPLE = "words and genders, such as --gender-words 男=M 女=F"


@dataclass(frozen=True)
class Vocabulary:
    """The meaning of each word of a gender column.

    Attributes:
        words: the words as `normalize_word` returns them, and their genders.
        description: the words for error messages.
        knows_flags: whether it is known what 1 and true mean, or that they mean nothing.
    """

    words: Mapping[str, Gender]
    description: str
    knows_flags: bool


def _flag_vocabulary(flag: Flag) -> Vocabulary:
    flags: dict[str, Gender] = {word: "M" if is_true == (flag == "male") else "F" for word, is_true in _FLAGS.items()}
    # In a column of females, F could be short for false.
    words = {word: gender for word, gender in _BUILT_IN.items() if (flag, word) != ("female", "f")}
    return Vocabulary(words | flags, f"1, 0, true or false ({flag}), male or female", knows_flags=True)


WORDS_ONLY = Vocabulary(_BUILT_IN, "M, F, male or female", knows_flags=False)
_VOCABULARIES = {None: WORDS_ONLY, **{flag: _flag_vocabulary(flag) for flag in get_args(Flag)}}


def find_vocabulary(flag: Flag | None, given: Sequence[str] = ()) -> Vocabulary:
    """Return the vocabulary of a column.

    Args:
        flag: the gender that 1 and true mean; None if that is unknown.
        given: words and genders from the user, such as `男=M`, which replace all other words.

    Raises:
        ConfigError: if `given` is malformed or contradicts itself, or `flag`.
    """
    words = parse_gender_words(given)
    if not words:
        return _VOCABULARIES[flag]
    known = _VOCABULARIES[flag].words if flag else {}
    for word, gender in words.items():
        if word in _FLAGS and known.get(word, gender) != gender:
            raise ConfigError(
                f"--gender-words {word}={gender} contradicts the name of the column, which says {flag}",
                expected=f"{word}={known[word]}",
                got=f"{word}={gender}",
                do="omit --gender-words, or rename the column",
            )
    return Vocabulary(words, " or ".join(words), knows_flags=True)


def parse_gender_words(given: Sequence[str]) -> dict[str, Gender]:
    """Return the gender of each word of `--gender-words`.

    Raises:
        ConfigError: if one is not WORD=M or WORD=F, or if a word occurs twice.
    """
    words: dict[str, Gender] = {}
    for text in given:
        word, _, gender = text.rpartition("=")
        word, gender = normalize_word(word), gender.strip().upper()
        if not word or gender not in get_args(Gender):
            raise _gender_words_error(f"{text!r} is not a word and a gender", text)
        if word in words:
            raise _gender_words_error(f"the word {word!r} occurs twice", " ".join(given))
        words[word] = "M" if gender == "M" else "F"
    return words


def _gender_words_error(problem: str, got: str) -> ConfigError:
    do = "give each word of the column once, followed by =M or =F"
    return ConfigError(f"--gender-words: {problem}", expected=_WORDS_EXAMPLE, got=got, do=do)


@lru_cache(maxsize=256)
def normalize_word(text: str) -> str:
    """Return a word without case and surrounding space, and without the `.0` of a float."""
    return _WHOLE_FLOAT.sub(r"\1", unicodedata.normalize("NFC", text.strip().casefold()))


def parse_gender(text: str, vocabulary: Vocabulary = WORDS_ONLY, *, where: str) -> Gender:
    """Return the gender in `text`, F or M.

    Raises:
        LabelError: if the word is not in the vocabulary.
    """
    gender = vocabulary.words.get(normalize_word(text))
    if gender is None:
        raise LabelError(
            f"{where}: the gender is {'not recognized' if text.strip() else 'missing'}",
            expected=vocabulary.description,
            got=repr(text),
            do="correct the gender or leave the sample out; a gender is never guessed",
        )
    return gender


def count_word(found: WordCounts, text: str, where: str) -> None:
    """Count a text of a gender column; more than a thousand different ones are not a vocabulary."""
    if text in found or len(found) < _MAX_WORDS:
        first, count = found.get(text, (where, 0))
        found[text] = first, count + 1


def check_vocabulary(found: WordCounts, vocabulary: Vocabulary, *, column: str) -> None:
    """Refuse a column whose words belong to another vocabulary.

    It is refused if it contains an unknown word while the known ones name fewer than two genders; if an unknown word is
    more common than one of the genders, and is a number or occurs more than ten times; or if it contains 1, 0, true or
    false of unknown meaning.

    Args:
        found: the texts of the column; empty ones are not words.
        vocabulary: the known words.
        column: the name of the column.

    Raises:
        LabelError: if the column is refused.
    """
    words = _count_words(found)
    unknown = {word: count for word, count in words.items() if word not in vocabulary.words}
    named = Counter[str]()
    for word in words.keys() - unknown.keys():
        named[vocabulary.words[word]] += words[word]
    rarer_gender = min(named["F"], named["M"])
    is_foreign = rarer_gender == 0 or any(
        count > max(rarer_gender, 0 if _is_code(word) else _COMMON_WORD) for word, count in unknown.items()
    )
    has_unstated_flags = not vocabulary.knows_flags and bool(unknown.keys() & _FLAGS.keys())
    if not unknown or not (is_foreign or has_unstated_flags):
        return
    where = next(first for text, (first, _) in found.items() if normalize_word(text) in unknown)
    spelled = {normalize_word(text): text.strip() for text in found}
    shown = Counter({spelled[word]: count for word, count in words.items()})
    if has_unstated_flags and not any(map(_is_code, unknown)):
        raise _unstated_flag_error(shown, column, where)
    raise _foreign_words_error(shown, [spelled[word] for word in unknown], vocabulary, column, where)


def _count_words(found: WordCounts) -> Counter[str]:
    words = Counter[str]()
    for text, (_, count) in found.items():
        if text.strip():
            words[normalize_word(text)] += count
    return words


def _is_code(word: str) -> bool:
    return word.isdecimal() and word not in _FLAGS


def _unstated_flag_error(words: Counter[str], column: str, where: str) -> LabelError:
    return LabelError(
        f"{where}: the name of the column {column!r} does not say which gender 1 or true means",
        expected="M, F, male or female, or a column named male or female",
        got=_format_counts(words),
        do=f"state what 1 and true mean in {column!r} with --gender-is male or --gender-is female",
    )


def _foreign_words_error(
    words: Counter[str], unknown: Sequence[str], vocabulary: Vocabulary, column: str, where: str
) -> LabelError:
    kind = "codes" if any(map(_is_code, unknown)) else "words"
    names = ", ".join(map(repr, unknown[:_NUM_SHOWN]))
    return LabelError(
        f"{where}: the column {column!r} has gender {kind} that are not known ({names}), so none of them is trusted",
        expected=vocabulary.description,
        got=_format_counts(words),
        do=f"say what all of them mean: {_suggest_words(words)}; or correct the rows that are wrong",
    )


def _format_counts(words: Counter[str]) -> str:
    shown = [f"{word!r} in {count:,} row{'s' if count > 1 else ''}" for word, count in words.most_common(_NUM_SHOWN)]
    return ", ".join([*shown, f"and {len(words) - _NUM_SHOWN} more"] if len(words) > _NUM_SHOWN else shown)


def _suggest_words(words: Counter[str]) -> str:
    first, second = (sorted(word for word, _ in words.most_common(2)) * 2)[:2]
    if first == second:
        return "--gender-words 1=M 2=F" if _is_code(first) else "--gender-words WORD=M WORD=F"
    options = (f"{first}=M", f"{second}=F"), (f"{first}=F", f"{second}=M")
    if normalize_word(first) in _FEMALE:  # F means female in all languages that use it; M may mean mujer
        options = options[::-1]
    return "--gender-words " + ", or ".join(" ".join(map(shlex.quote, option)) for option in options)
