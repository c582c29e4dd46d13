"""Test that genders are read in known vocabularies only, and that the user can give any vocabulary."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wds_bone.errors import ConfigError, LabelError
from wds_bone.labels.genders import WORDS_ONLY, find_vocabulary, normalize_word, parse_gender_words
from wds_bone.labels.read import LabelColumns, RejectedSample, read_labels

PAIRS = [("boy", "girl"), ("Boys", "GIRLS"), ("男", "女"), ("男性", "女性"), ("m", "f"), ("MALE", "Female")]
FLAGS = [("yes", "no"), ("Y", "N"), ("WAHR", "FALSCH"), ("VRAI", "FAUX"), ("Verdadero", "Falso"), ("1.0", "0.0")]
known_words = st.sampled_from(sorted(WORDS_ONLY.words))
any_words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=4) | st.sampled_from(
    ["h", "1", "2", "?"]
)


def read(folder: Path, genders: list[str], *, column: str = "sex", skip: bool = False, **settings) -> str:
    """Return the genders that are read from a table, as one string."""
    path = folder / "labels.csv"
    path.write_text(f"id,boneage,{column}\n" + "".join(f'{n},90,"{word}"\n' for n, word in enumerate(genders)))
    labels = read_labels(path, LabelColumns(**settings), rejected=[] if skip else None)
    return "".join(label.gender for label in labels)


@pytest.mark.parametrize(("male", "female"), PAIRS)
def test_common_words_are_known_in_every_column(male: str, female: str, tmp_path: Path):
    for column in ("sex", "male"):
        assert read(tmp_path, [male, f" {female} ", male], column=column) == "MFM"


@pytest.mark.parametrize(("true", "false"), FLAGS)
def test_words_for_true_and_false_are_known_in_a_column_that_says_what_true_means(
    true: str, false: str, tmp_path: Path
):
    assert read(tmp_path, [true, false], column="male") == "MF"
    assert read(tmp_path, [true, false], column="is_female") == "FM"
    with pytest.raises(LabelError, match=r"does not say which gender 1 or true means(?s:.*)--gender-is male"):
        read(tmp_path, [true, false])


@pytest.mark.fault("A5")
@given(known=st.lists(known_words, max_size=12), unknown=st.lists(any_words, min_size=1, max_size=9))
def test_a_table_with_an_unknown_word_is_refused_whole_unless_the_known_words_name_both_genders(
    known: list[str], unknown: list[str], tmp_path_factory: pytest.TempPathFactory
):
    unknown = [word for word in unknown if not word.isdecimal()]
    foreign = [word for word in unknown if normalize_word(word) not in WORDS_ONLY.words] or ["hombre"]
    genders = {WORDS_ONLY.words[word] for word in known}
    has_flags = any(normalize_word(word) in find_vocabulary("male").words for word in foreign)
    folder = tmp_path_factory.mktemp("words")
    if len(genders) == 2 and not has_flags:
        expected = "".join(WORDS_ONLY.words[word] for word in known)
        assert read(folder, [*foreign, *known], skip=True) == expected
    else:
        for skip in (False, True):
            with pytest.raises(LabelError, match=r"not known|does not say which gender"):
                read(folder, [*known, *foreign], skip=skip)


@pytest.mark.fault("A5")
def test_one_typing_error_does_not_make_a_foreign_vocabulary_known(tmp_path: Path):
    with pytest.raises(LabelError, match=r"'H'(?s:.*)got:      'H' in 12 rows, 'M' in 12 rows, 'F' in 1 row"):
        read(tmp_path, ["H", "M"] * 12 + ["F"], skip=True)


@pytest.mark.fault("A5")
def test_codes_with_0_for_unknown_are_not_flags(tmp_path: Path):
    with pytest.raises(LabelError, match=r"gender codes that are not known \('2', '9'\)"):
        read(tmp_path, ["1", "2", "1", "2", "0", "9"], skip=True, gender_is="male")
    assert read(tmp_path, ["1", "0", "1", "0", "2"], skip=True, gender_is="male") == "MFMF"


@pytest.mark.fault("A5")
def test_a_gender_that_is_missing_or_misspelled_is_rejected_with_its_row(tmp_path: Path):
    path, rejected = tmp_path / "labels.csv", list[RejectedSample]()
    path.write_text("id,boneage,sex\n1,90,F\n2,90,\n3,90,mael\n4,90,M\n")
    assert [label.key for label in read_labels(path, rejected=rejected)] == ["1", "4"]
    assert [(bad.key, bad.cause) for bad in rejected] == [("2", "bad gender"), ("3", "bad gender")]
    with pytest.raises(LabelError, match="line 3: id '2': the gender is missing"):
        read_labels(path)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["H", "M"], ("H=M", "M=F")),
        (["homme", "féminin"], ("Homme=m", "fe\N{COMBINING ACUTE ACCENT}minin=F")),
        (["1", "2"], ("1=M", "2=F")),
        (["1.0", "2.0"], ("1=M", "2=F")),
        (["a=b", "c d"], ("a=b=M", "c d=F")),
    ],
)
def test_the_user_can_give_the_words(cells: list[str], words: tuple[str, ...], tmp_path: Path):
    assert read(tmp_path, cells, gender_words=words) == "MF"


def test_words_from_the_user_replace_the_known_ones(tmp_path: Path):
    with pytest.raises(LabelError, match=r"'F'\), so none of them is trusted(?s:.*)expected: h or m"):
        read(tmp_path, ["H", "H", "F"], skip=True, gender_words=("H=M", "M=F"))
    assert read(tmp_path, ["H", "M", "F"], skip=True, gender_words=("H=M", "M=F")) == "MF"


@pytest.mark.parametrize("column", ["sex", "male"])
def test_codes_ask_for_gender_words(column: str, tmp_path: Path):
    with pytest.raises(LabelError, match=r"gender codes that are not known(?s:.*)--gender-words 1=M 2=F, or 1=F 2=M"):
        read(tmp_path, ["1", "2"] * 6, column=column, skip=True)
    assert read(tmp_path, ["1", "2"], column=column, gender_words=("1=M", "2=F")) == "MF"


@pytest.mark.parametrize(
    "words", [("M",), ("=M",), ("H=X",), ("H=",), ("H=M", "h=F"), ("H=M", "H=M"), ("1=M", "1.0=M")]
)
def test_malformed_and_contradictory_words_are_refused(words: tuple[str, ...]):
    with pytest.raises(ConfigError, match="--gender-words"):
        LabelColumns(gender_words=words)


def test_words_that_contradict_another_statement_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="--gender-is and --gender-words contradict each other"):
        LabelColumns(gender_words=("H=M",), gender_is="male")
    with pytest.raises(ConfigError, match="1=F contradicts the name of the column, which says male"):
        read(tmp_path, ["1", "0"], column="male", gender_words=("1=F", "0=M"))


@given(words=st.lists(st.tuples(any_words, st.sampled_from("FM")), unique_by=lambda pair: normalize_word(pair[0])))
def test_any_words_can_be_given(words: list[tuple[str, str]]):
    given = [f"{word}={gender}" for word, gender in words]
    assert parse_gender_words(given) == {normalize_word(word): gender for word, gender in words}


@pytest.mark.fault("A5")
def test_the_first_suggestion_keeps_the_word_that_means_female_everywhere(tmp_path: Path):
    path = tmp_path / "labels.csv"
    path.write_text("id,boneage,sexe\n" + "".join(f"{number},90,{'HF'[number % 2]}\n" for number in range(24)))
    with pytest.raises(LabelError, match="--gender-words F=F H=M, or F=M H=F"):
        read_labels(path, LabelColumns(gender_column="sexe"))
