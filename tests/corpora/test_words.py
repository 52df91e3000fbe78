"""Spaces between words, and words and sentences of raw text."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metacross.corpora.characters import INVISIBLE, visible
from metacross.corpora.schemes import to_iob2
from metacross.corpora.sentence import entities, sentence_from_words
from metacross.corpora.words import join_words, needs_space, sentence_breaks, split_sentences, split_words
from tests.helpers.corpora import ODD

# --- text from words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_words", "text"),
    [
        ("New York", "New York"),
        ("我 在 北京 。", "我在北京。"),
        ("東京 タワー へ ， 行く", "東京タワーへ，行く"),
        ("《 红楼梦 》 。", "《红楼梦》。"),
        ("กรุงเทพ ฯ มา", "กรุงเทพฯมา"),
        ("ຂ້ອຍ ຮັກ", "ຂ້ອຍຮັກ"),
        ("ខ្ញុំ ទៅ", "ខ្ញុំទៅ"),
        ("မြန်မာ စာ", "မြန်မာစာ"),
        ("用 iPhone 打 电话", "用 iPhone 打电话"),
        ("2010 年", "2010 年"),
        ("서울 에서", "서울 에서"),
        ("𠀀 𠀁", "𠀀𠀁"),
        ("", ""),
    ],
)
def test_spaces_follow_the_script(given_words: str, text: str) -> None:
    assert sentence_from_words(given_words.split()).text == text


@given(st.lists(st.text("ab1.é“한北の。ก\uff01𠀀", min_size=1, max_size=3)), st.sampled_from([None, "zh", "ko"]))
def test_words_are_joined_pair_by_pair(given_words: list[str], language: str | None) -> None:
    text = given_words[0] if given_words else ""
    for left, right in pairwise(given_words):
        text += " " * needs_space(left, right, language) + right
    joined, spans = join_words(given_words, language)
    assert joined == text
    assert [joined[start:end] for start, end in spans] == given_words


def test_korean_keeps_its_spaces() -> None:
    assert sentence_from_words(["大韓", "民國"], language="ko").text == "大韓 民國"
    assert sentence_from_words(["大韓", "民國"], language="ja").text == "大韓民國"


# --- words of raw text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world!", "Hello , world !"),
        ('("Yes")', '( " Yes " )'),
        ("3.5 1,000 12:30 1996-08-22 12/08", "3.5 1,000 12:30 1996-08-22 12/08"),
        ("costs 3.5.", "costs 3.5 ."),
        ("-5% $3 3.5m", "- 5 % $ 3 3.5m"),
        ("U.S. e.g. U.S.-based p.m.", "U.S. e.g. U.S.-based p.m."),
        ("J. Smith and Dr. Li met Plan B.", "J. Smith and Dr. Li met Plan B ."),
        ("Ask a Dr.", "Ask a Dr ."),
        ("Ft. Worth, Sv. Petar", "Ft. Worth , Sv. Petar"),
        ("no col. and dr. Jansen", "no col . and dr. Jansen"),
        ("well-known al-Ani-", "well-known al-Ani -"),
        ("end.Next a,b c/d", "end . Next a , b c / d"),
        ("John's don't I'll O'Brien’s DON’T", "John 's do n't I 'll O'Brien ’s DO N’T"),
        ("l'Europe d’Orsay qu'il dell'arte aujourd'hui", "l' Europe d’ Orsay qu' il dell' arte aujourd'hui"),
        ("James' 'quoted'", "James ' ' quoted '"),
        ("wait... no--yes !!", "wait ... no -- yes ! !"),
        ("我在iPhone上", "我 在 iPhone 上"),
        ("2010年3月。", "2010 年 3 月 。"),
        ("ที่นี่", "ที่ นี่"),
        ("हिन्दी में", "हिन्दी में"),
        ("می\u200cروم خانه", "می\u200cروم خانه"),
        ("e\u0301te\u0301 été", "e\u0301te\u0301 été"),
        ("👍🏽x", "👍🏽 x"),
        ("\ufeffAna\u200b, \u202bלוד\u202c. Ana\xa0Roth", "Ana , לוד . Ana Roth"),
        ("Dr.\u200b Li\u200f's\u2060 l'\u200bEurope", "Dr. Li 's l' Europe"),
        ("3\u200b.5 no\x00 \x1b[31mred", "3\u200b.5 no [ 31mred"),
        ("Ana\x00Roth", "Ana Roth"),
        ("北\u200b京 👩\u200d🚀", "北 京 👩\u200d🚀"),
        ("മോഹന്\u200d വന്നു", "മോഹന്\u200d വന്നു"),
        ("\ufeff \u200b\x00\xa0", ""),
        ("", ""),
    ],
)
def test_split_words(text: str, expected: str) -> None:
    assert [text[start:end] for start, end in split_words(text)] == expected.split()


ZERO_WIDTH = "\ufeff\u200b\u200c\u200d\u200e\u200f\u202b\u202c\u2060\u2067\u2069\xad"


@st.composite
def sprinkled(draw: st.DrawFn) -> tuple[str, str]:
    """A text, and the same with characters without width between its own."""
    words = st.sampled_from(["Dr.", "Li's", "l'Eau", "3.5", "...", "U.S.", "北京", "हिन्दी", "\x00", "«", " ", "\n"])
    plain = "".join(draw(st.lists(words | st.text(st.characters(), max_size=3), max_size=12)))
    plain = "".join(character for character in plain if unicodedata.category(character) != "Cf")
    between = draw(
        st.lists(st.text(st.sampled_from(ZERO_WIDTH), max_size=2), min_size=len(plain) + 1, max_size=len(plain) + 1)
    )
    return plain, "".join(extra + character for extra, character in zip(between, [*plain, ""], strict=True))


def _without_zero_width(text: str) -> str:
    return text.translate(dict.fromkeys(map(ord, ZERO_WIDTH)))


@given(sprinkled())
def test_characters_without_width_change_neither_words_nor_sentences(texts: tuple[str, str]) -> None:
    plain, odd = texts
    for split in (split_words, split_sentences):
        expected = [plain[start:end] for start, end in split(plain)]
        assert [_without_zero_width(odd[start:end]) for start, end in split(odd)] == expected
        assert all(visible(odd[start:end]) == odd[start:end] for start, end in split(odd))


@pytest.mark.parametrize("unit", ["a.b.c'd-e 1,2", "a\u200b.\ufeff", "\u200b"])
def test_split_words_is_linear(unit: str) -> None:
    text = unit * 20_000 + "a" * 20_000  # quadratic time would be minutes
    assert len(split_words(text)) > 0


# --- sentences -------------------------------------------------------------------------------------------------------


@given(st.text(st.one_of(st.sampled_from(ODD + "?!\r"), st.characters())))
def test_sentences_cover_every_visible_character(text: str) -> None:
    spans = split_sentences(text)
    covered = [place for start, end in spans for place in range(start, end) if text[place] not in INVISIBLE]
    assert covered == [place for place, character in enumerate(text) if character not in INVISIBLE]
    assert all(visible(text[start:end]) == text[start:end] != "" for start, end in spans)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. J. Smith of the U.S. Army met dr. Li.", ["Dr. J. Smith of the U.S. Army met dr. Li."]),
        ("It cost 3.5 eur. yes", ["It cost 3.5 eur. yes"]),
        ("It cost 3.5 euros. yes (maybe). no", ["It cost 3.5 euros.", "yes (maybe). no"]),  # no abbreviation so long
        ("She left. 5 came. Really? 3 did (all). 2", ["She left. 5 came.", "Really?", "3 did (all).", "2"]),
        ("On Monday. 5 came, see No. 5, Sept. 3", ["On Monday.", "5 came, see No. 5, Sept. 3"]),
        ("It was 6-2. He won 0,15. On 7/16. She left", ["It was 6-2.", "He won 0,15.", "On 7/16.", "She left"]),
        ("Vom 3.-5. Oktober. Da", ["Vom 3.-5. Oktober.", "Da"]),
        (
            "It's. Don't. An AT&T. A A/S. U UN-a. I J.-P. Sartre",
            ["It's.", "Don't.", "An AT&T.", "A A/S.", "U UN-a.", "I J.-P. Sartre"],
        ),
        ("F.eks. Oslo, bl.a. Bergen, (e.g. Rome). Da", ["F.eks. Oslo, bl.a. Bergen, (e.g. Rome).", "Da"]),
        ("Hva? - Nei. -- Jo! • Kanskje. - og", ["Hva?", "- Nei.", "-- Jo!", "• Kanskje.", "- og"]),
        ("A (...) B. C [?] D", ["A (...) B. C [?] D"]),
        ("„Nein.“ »Ja.« ‚Da!‘ Gut", ["„Nein.“", "»Ja.«", "‚Da!‘", "Gut"]),
        ("In Ft. Worth, sv. Petar, Det Kgl. Teater", ["In Ft. Worth, sv. Petar, Det Kgl. Teater"]),
        ("Am 3. Oktober. In 1990. Da", ["Am 3. Oktober.", "In 1990.", "Da"]),
        ("One.\ntwo\nthree", ["One.", "two\nthree"]),
        ("A title\n\nText\r\n \r\nmore", ["A title", "Text", "more"]),
        ('He said "no." (She left.) «Да.» Нет.', ['He said "no."', "(She left.)", "«Да.»", "Нет."]),
        ("他走了。“再见！”她说。ok", ["他走了。", "“再见！”", "她说。", "ok"]),
        ("Ok. 中文", ["Ok.", "中文"]),
        ("क्या? हाँ। ठीक", ["क्या?", "हाँ।", "ठीक"]),
        ("Wait... what? No", ["Wait... what?", "No"]),
        ("El presidente de EE. UU. Joe Biden viajó. Luego", ["El presidente de EE. UU. Joe Biden viajó.", "Luego"]),
        ("Kościół św. Anny przy ul. Długiej. Padało", ["Kościół św. Anny przy ul. Długiej.", "Padało"]),
        ("Он на ул. Ленина. Театр им. Чехова закрыт", ["Он на ул. Ленина.", "Театр им. Чехова закрыт"]),
        ("Yahoo! Japan said no! Yes", ["Yahoo! Japan said no!", "Yes"]),
        ("《你好！安娜》是一本书。《书》很好！她说。", ["《你好！安娜》是一本书。", "《书》很好！", "她说。"]),
        ("《没有结尾！她说。", ["《没有结尾！", "她说。"]),  # a bracket that is never closed holds nothing together
        ("Angela Merkel\nBarack Obama", ["Angela Merkel", "Barack Obama"]),
        ("Martin L. King Jr.\r\nB. Obama", ["Martin L. King Jr.", "B. Obama"]),
        ("\ufeffAna left.\u200b Bo\u2060\n\u200b\nDr\u2060. Li", ["Ana left.", "Bo", "Dr\u2060. Li"]),
        # A full stop at the end of a wrapped line is one before a space.
        (
            "It was seen there by them, the others etc.\nand by us",
            ["It was seen there by them, the others etc.\nand by us"],
        ),
        (" \n ", []),
    ],
)
def test_split_sentences(text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in split_sentences(text)] == expected


@pytest.mark.parametrize(
    "unit",
    [
        "! ",
        "a. ",
        ". - ",
        "longer. a ",
        ".- ",
        "- ",
        '."',
        ". (",
        "(. ",
        "A.b. ",
        "a \n",
        "《！",
        "EE. ",
        "A\n",
        ".)",
        "  ",
        "\t",
    ],
)
def test_split_sentences_is_linear(unit: str) -> None:
    text = "a" + unit * 20_000  # quadratic time would be minutes
    assert split_sentences(text)[-1][1] == len(text.rstrip())


@pytest.mark.parametrize(
    ("given_words", "inside", "max_words", "expected"),
    [
        ("a b . C d", "", 9, [3, 5]),
        ("a b . c d", "", 9, [5]),
        ("a ab. C. D Dr. E 3. F?! G", "", 99, [2, 8, 9]),
        ("我 。 ） 他 ！", "", 9, [3, 5]),
        ("( A ? ) B", "", 9, [4, 5]),
        ("a b c d e", "", 2, [2, 4, 5]),
        ("a b c d e", "bc", 2, [1, 3, 5]),  # not between b and c
        ("a b c d e", "bcde", 3, [1, 4, 5]),  # an entity longer than a sentence may be
        ("A . B", ".", 9, [3]),
    ],
)
def test_sentence_breaks(given_words: str, inside: str, max_words: int, expected: list[int]) -> None:
    all_words = given_words.split()
    tags = to_iob2([["I-X" if word in list(inside) else "O" for word in all_words]], lambda s, w: "f").tags[0]
    assert sentence_breaks(all_words, tags, max_words) == expected


@given(
    st.lists(st.tuples(st.sampled_from(["a", "B", ".", "c!", "»"]), st.sampled_from(["O", "B-X", "I-X"])), min_size=1),
    st.integers(1, 5),
)
def test_sentence_breaks_keep_the_cap(rows: list[tuple[str, str]], max_words: int) -> None:
    all_words = [word for word, _ in rows]
    tags = to_iob2([[tag for _, tag in rows]], lambda s, w: "f").tags[0]
    breaks = sentence_breaks(all_words, tags, max_words)
    starts = [0, *breaks[:-1]]
    assert breaks[-1] == len(rows)
    assert all(1 <= end - start <= max_words for start, end in zip(starts, breaks, strict=True))
    longest = max((entity.end - entity.start for entity in entities(tags)), default=0)
    assert longest > max_words or not any(tags[start].startswith("I-") for start in starts)


@pytest.mark.parametrize(
    "character",
    [
        "👩\u200d👩\u200d👧",  # a family
        "🏴\u200d☠\ufe0f",  # a pirates' flag
        "👩🏽\u200d🚀",
        "👍🏽",
        "🇩🇪",
        "🏴\U000e0067\U000e0062\U000e007f",
        "1\ufe0f\u20e3",
        "e\u0301\u0323",
        "น้ำ",
        "ｶﾞ",
        "क्षि",
        ".\u20e3",
        "\u1112\u1161\u11ab\u1100\u1173\u11af",  # Hangul in jamo
        "\u1782\u17d2\u179a\u17bb",  # Khmer, with a letter below another
        "\u1000\u1039\u1000\u102c",  # Burmese
        "\u06dd\u0661\u0662",  # the number of a verse
    ],
)
def test_what_is_seen_as_one_character_is_never_cut(character: str) -> None:
    for text in (character, f"{character}{character}", f"Ana{character} {character}Rom", f"({character})"):
        edges = {edge for span in split_words(text) for edge in span}
        start = -1
        while (start := text.find(character, start + 1)) >= 0:
            assert not edges & set(range(start + 1, start + len(character))), (text, split_words(text))


def test_flags_side_by_side_are_words_of_their_own() -> None:
    assert [text[start:end] for text in ("🇩🇪🇫🇷",) for start, end in split_words(text)] == ["🇩🇪", "🇫🇷"]
