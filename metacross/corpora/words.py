"""Joining words into text, and finding words and sentences in raw text.

No character is changed: a word is always a slice of its text. Offsets count code points. Neither words nor sentences of
raw text begin or end with characters that nobody sees (`metacross.corpora.characters`).
"""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from metacross.corpora.characters import INVISIBLE, SIGN_OF_NUMBER, visible_part
from metacross.corpora.lines import unwrap

# Scripts written without spaces between words, as code point ranges (first, last), in ascending order: Thai, Lao,
# Myanmar, Khmer, Han, Hiragana, Katakana, with their extensions and the Han characters among the CJK symbols.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x19E0, 0x19FF),
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3038, 0x303B),
    (0x3041, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFD),
)
_WIDE = ((0x3000, 0x303F), (0xFF00, 0xFFEF))  # CJK punctuation, full-width forms
_UNSPACED_OR_WIDE = re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in (*_UNSPACED, *_WIDE))}]")
_UNSPACED_STARTS = tuple(first for first, _ in _UNSPACED)
_STOPS = frozenset(".!?。！？")
# Titles and similar abbreviations, whose full stop ends no sentence. Some are words unless written with a capital.
_TITLE = re.compile(
    "(?i:mr|mrs|dr|drs|prof|jr|sr|jhr|dhr|mevr|frl|mme|mlle|mgr|sra|srta|dra|sgt|lt|nr|vs"
    "|mudr|judr|phdr|rndr|inž|kgl|chr|tzv|cf"
    "|św|ul|ks|ул|им|св|пл|просп|обл|проф|акад|ген)"
    "|Ms|Rev|Hon|Gen|Col|Maj|Capt|Gov|Sen|Rep|Pres|St|Mt|Hr|Fr|Exmo|Adm|Cpl|Pvt|Bros|Ft|Kgs|Cia|Av|[Ii]ng|[Ss]v"
)


def is_unspaced(character: str) -> bool:
    """Whether the character's script is written without spaces between words (Han, kana, Thai, Lao, Khmer, Burmese)."""
    code = ord(character)
    at = bisect_right(_UNSPACED_STARTS, code) - 1
    return at >= 0 and code <= _UNSPACED[at][1]


def needs_space(left: str, right: str, language: str | None = None) -> bool:
    """Whether a space belongs between two neighbouring words when text is rebuilt from words.

    There is no space between two characters that are each of an unspaced script or CJK full-width punctuation. Korean
    separates words by spaces even if they are written in Chinese characters.

    Args:
        left: the word before.
        right: the word after.
        language: ISO 639-1 code; only "ko" makes a difference.
    """
    if language == "ko":
        return True
    return not (_UNSPACED_OR_WIDE.match(left[-1]) and _UNSPACED_OR_WIDE.match(right[0]))


def join_words(words: Sequence[str], language: str | None = None) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Rebuilds text from non-empty words; returns the text and every word's (start, end).

    >>> join_words(["Angela", "Merkel", "访问", "北京", "。"])
    ('Angela Merkel 访问北京。', ((0, 6), (7, 13), (14, 16), (16, 18), (18, 19)))
    """
    text = " ".join(words)
    if language != "ko" and _UNSPACED_OR_WIDE.search(text):
        return _join_closely(words)
    spans: list[tuple[int, int]] = []
    start = 0
    for word in words:
        end = start + len(word)
        spans.append((start, end))
        start = end + 1
    return text, tuple(spans)


def _join_closely(words: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Joins words some of which may have no space between them."""
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    end = 0
    for previous, word in zip(["", *words], words, strict=False):
        if previous and needs_space(previous, word):
            parts.append(" ")
            end += 1
        parts.append(word)
        spans.append((end, end + len(word)))
        end += len(word)
    return "".join(parts), tuple(spans)


# --- raw text -> words -----------------------------------------------------------------------------------------------

# Without width, so they separate nothing: words and sentences are the same with and without them. The other invisible
# characters are white space and controls, which separate words.
_INVISIBLE_FORMATS = "".join(c for c in sorted(INVISIBLE) if unicodedata.category(c) == "Cf")
# But a joiner makes one picture of several: of people a family. (Unicode: Extended_Pictographic, about)
_PICTURES = "©®‼⁉™↔-↪⌚-⏿Ⓜ▪-◾☀-➿⤴⤵⬅-⭕〰〽㊗㊙\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff"
_SKIN_TONES = "\U0001f3fb-\U0001f3ff"
_ZERO_WIDTH = re.compile(f"(?!(?<=[{_PICTURES}{_SKIN_TONES}\ufe0f])\u200d[{_PICTURES}])[{_INVISIBLE_FORMATS}]")
_KEPT = {"’": "'", "‐": "-", "‑": "-", "\u200d": "z"} | {character: character for character in ".,:/-'"}
# Letters and symbols by their category, but never without what stands before them: skin tones, and vowels and voicing
# marks of Thai, Lao and half-width kana.
_MARKS = frozenset("\u0e33\u0eb3\uff9e\uff9f") | frozenset(map(chr, range(0x1F3FB, 0x1F400)))
_FLAG_LETTERS = frozenset(map(chr, range(0x1F1E6, 0x1F200)))  # two of them make a flag
_STACKED = re.compile("[\u1039\u17d2][\u1000-\u109f\u1780-\u17ff]")  # a Burmese or Khmer letter below the one before it


def _shape(character: str) -> str:
    """Reduces a character to a letter for what split_words has to know of it; re cannot match Unicode categories.

    s white space or control, u letter of an unspaced script, A upper case, a other letter, d number, m mark,
    . , : / - ' themselves, f letter of a flag, z joiner of pictures, p anything else (symbols, emoji, lone surrogates).
    """
    if character in _KEPT:
        return _KEPT[character]
    if character in INVISIBLE:
        return "s"
    if character in _MARKS:
        return "m"
    if character in _FLAG_LETTERS:
        return "f"
    category = unicodedata.category(character)
    if SIGN_OF_NUMBER.match(character):  # before its digits
        return "d"
    if category[0] == "M" or category == "Cf":  # of Cf, the tags of flags are left
        return "m"
    if category[0] == "N":
        return "d"
    if category[0] == "L":
        return "u" if is_unspaced(character) else "A" if category in ("Lu", "Lt") else "a"
    return "p"


_UNIT = "[Aad][Aadm]*"
_SHAPES = re.compile(
    rf"""
      um*                                                   # one character of an unspaced script
    | (?:[Aa]m*\.m*)+[Aa]m*(?![Aadm])(?:\.m*)?(?:-{_UNIT})* # U.S., e.g., U.S.-based
    | A\.(?=s+[^s])                                         # an initial: J. Smith; at the end of text it is a full stop
    | {_UNIT}(?:(?:[-'](?=[Aad])|(?<=d)[.,:/](?=d)){_UNIT})*  # words, hyphens and apostrophes inside, 3.5, 1,000, 12:30
    | (?:\.{{2,}} | -{{2,}})m*                              # ... and --
    | (?:ff|[^s])m*(?:zpm*)*                                # any other character by itself; a flag; pictures joined
    """,
    re.VERBOSE,
)
_STOP_WITHIN = re.compile(r"\.s+[^s]")  # a full stop with more text behind it
_CLITIC = re.compile(r"(?<=.)(?:n['’]t|['’](?:s|ll|re|ve|d|m))$", re.IGNORECASE | re.DOTALL)
_ELISION = re.compile(r"(?:[cdjlmnst]|(?:jus|lors|puis|quoi)?qu|un|(?:d|n|a|su|da|co)e?ll)['’](?=\w)", re.IGNORECASE)


def split_words(text: str) -> list[tuple[int, int]]:
    r"""Finds the words of raw text, much as newswire corpora divide it. Returns (start, end) of each, in order.

    1. White space and control characters separate words. Every visible character is in exactly one word.
    2. Every letter of a script written without spaces (Chinese, Japanese kana, Thai, ...) is a word, with its marks and
       with letters that are stacked below it (Burmese, Khmer).
    3. Letters, marks and digits form words. Hyphens and apostrophes inside stay (well-known, O'Brien), and so do
       . , : / between digits (3.5, 1,000, 12:30) and the full stops of abbreviations (U.S., J. Smith, Dr.).
    4. English clitics are cut off (John|'s, do|n't), and so are French and Italian elisions (l'|Europe, dell'|arte).
    5. Every other punctuation mark or symbol is a word, except that runs of full stops or hyphens stay together. A flag
       of two letters is one word, and so are a picture with its skin tone and pictures joined: they look like one.
    6. Other characters without width (byte-order mark, joiners, marks of direction) make no difference to the words.
       Between the letters of a word they stay in it (Persian می\u200cروم); at its ends they are in no word.

    >>> text = "Dr. Li's U.S.-based firm didn't pay $3.5 in 北京."
    >>> [text[start:end] for start, end in split_words(text)]
    ['Dr.', 'Li', "'s", 'U.S.-based', 'firm', 'did', "n't", 'pay', '$', '3.5', 'in', '北', '京', '.']
    """
    plain, places = _without_zero_width(text)
    return _placed(text, places, _split_plain(plain))


def _without_zero_width(text: str) -> tuple[str, Sequence[int]]:
    """The text without characters that have no width, and where each of the others, and the end, is in the text."""
    if not _ZERO_WIDTH.search(text):
        return text, range(len(text) + 1)
    left_out = {match.start() for match in _ZERO_WIDTH.finditer(text)}
    places = [place for place in range(len(text)) if place not in left_out]
    return _ZERO_WIDTH.sub("", text), [*places, len(text)]


def _placed(text: str, places: Sequence[int], spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The visible parts, in the text, of spans in the text without zero-width characters."""
    parts = (visible_part(text, places[start], places[end]) for start, end in spans)
    return [(start, end) for start, end in parts if start < end]


def _split_plain(text: str) -> list[tuple[int, int]]:
    """The words of a text without zero-width characters."""
    shapes = "".join(map(_shape, _STACKED.sub("\u1039\u1039", text)))  # a mark in place of the letter
    spans: list[tuple[int, int]] = []
    end = 0
    while match := _SHAPES.search(shapes, end):
        start, end = match.span()
        word = text[start:end]
        # As in "Dr. Li"; but in "the Dr." at the end of the text, the full stop is the sentence's.
        if _TITLE.fullmatch(word) and _STOP_WITHIN.match(shapes, end):
            end += 1
            word = text[start:end]
        cut = _CLITIC.search(word) or _ELISION.match(word)
        if cut:
            middle = start + (cut.start() or cut.end())
            spans += [(start, middle), (middle, end)]
        else:
            spans.append((start, end))
    return spans


# --- sentences -------------------------------------------------------------------------------------------------------

_BREAK = re.compile(
    r"""
      [。！？][。！？…]*[”’」』）】》"')\]]*                # needs no space after it
    # needs one, and a look at what follows; a run of stops is tried once, from its first, or time grows as its square.
    # Stops alone in brackets, (...) or [?], are an aside. Before a space every quotation mark closes: languages differ.
    | (?<![.!?؟।॥۔…(\[])[.!?؟।॥۔…]++[”“’‘»«›‹"')\]]*+(?=\s)
    """,
    re.VERBOSE,
)
# The space, then the next letter or digit behind opening quotes and brackets, and behind a dash or bullet.
_AFTER = re.compile(r"(\s*)(?:[-–—*•·]+\s+)?[^\w\s]*(\w?)")
_BEFORE = re.compile(r"\S*\Z")
_LETTER = r"[^\W\d_]"
_ABBREVIATED = re.compile(
    rf"""
      (?:.*[\W_])?(?:{_TITLE.pattern})         # Dr, (Prof, Frau-Dr
    | \W*(?:.*[.)]-?)?{_LETTER}                 # J, U.S, J.-P, but not A/S, don't, AT&T, UN-a
    | \W*(?:{_LETTER}{{1,2}}\.)+{_LETTER}{{1,3}} # f.eks, bl.a, z.B
    | \W*(?P<letter>[A-Z])(?P=letter)         # EE. UU.: Spanish plurals
    | [("'“”„‘«»‹›\[*]*(?:\d\d?\.-)?\d\d?     # 3, 3.-5, but not 6-2, 7/16, 0,15
    """,
    re.VERBOSE | re.DOTALL,
)
# A word that is too long for an abbreviation before a small letter or a number (etc. and, No. 5, Sept. 3).
_LONG_WORD = re.compile(rf"\W*(?:.*['’-])?{_LETTER}{{5,}}")
_EXCLAIMED = frozenset({"Yahoo", "Jeopardy", "Wham"})  # names that end in an exclamation mark
_TITLE_REACH = 40  # characters of the longest title of a work that is looked for
_REACH = 12  # characters before a full stop that are looked at: enough for abbreviations, and time stays linear


def split_sentences(text: str) -> list[tuple[int, int]]:
    r"""Finds the sentences of raw text. Returns (start, end) of each, without the invisible characters around it.

    A sentence ends
    1. after 。！？, with the closing quotes and brackets that follow;
    2. after . ! ? (or their like in Arabic and Devanagari) before a line's end that is no wrap, or before a space and
       then an upper case letter, a letter of a script without case or, unless the full stop follows a word (No. 5), a
       digit;
    3. after a full stop behind a word of five letters or more before a space and then any letter or digit, since
       abbreviations before small letters and digits (etc. and, Sept. 3) are shorter;
    4. at a blank line, and at the end of a line in a list or table (`metacross.corpora.lines.unwrap`).

    Quotes, brackets or a dash may stand before the letter or digit.

    A full stop after one letter (J. Smith, U.S.), letters with full stops between them (f.eks.), a title (Dr.) or a
    number of one or two digits (3. Oktober) ends none, and neither do stops alone in brackets (...) or inside the title
    of a work (《你好！》). In doubt there is no break: a missed one only makes a sentence longer, a wrong one can cut a
    name.

    >>> text = 'Dr. J. Smith left. "Why?" He said no.\n他走了。再见'
    >>> [text[start:end] for start, end in split_sentences(text)]
    ['Dr. J. Smith left.', '"Why?"', 'He said no.', '他走了。', '再见']
    """
    plain, places = _without_zero_width(text)
    unwrapped, line_borders = unwrap(plain)
    stops = (mark.end() for mark in _BREAK.finditer(unwrapped) if _ends_sentence(unwrapped, mark))
    ends = sorted({*stops, *line_borders})
    return _placed(text, places, zip([0, *ends], [*ends, len(plain)], strict=True))


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    """Whether a match of `_BREAK` ends a sentence, which depends on the words around it."""
    mark = match.group()
    if mark[0] in "。！？":
        return not _in_title(text, match.start())
    before = _BEFORE.search(text, max(0, match.start() - _REACH), match.start())
    word = before.group() if before else ""
    if (mark == "." and _is_abbreviated(word)) or (mark == "!" and word in _EXCLAIMED):
        return False
    after = _AFTER.match(text, match.end())
    space, first = after.groups() if after else ("", "")
    if "\n" in space:
        return True
    if mark == "." and _LONG_WORD.fullmatch(word):
        return first.isalnum()
    if first.isdigit():
        return mark != "." or not word[-1:].isalnum()
    return first.isalpha() and not first.islower()


def _in_title(text: str, at: int) -> bool:
    """Whether a Chinese or Japanese stop stands inside the title of a work, as in 《你好！安娜》."""
    start = max(0, at - _TITLE_REACH)
    return text.rfind("《", start, at) > text.rfind("》", start, at) and text.find("》", at, at + _TITLE_REACH) > 0


def _is_abbreviated(word: str) -> bool:
    """Whether a full stop after this word belongs to it: initials, a title, or a number of one or two digits."""
    return _ABBREVIATED.fullmatch(word[-_REACH:]) is not None


def sentence_breaks(words: Sequence[str], tags: Sequence[str], max_words: int) -> list[int]:
    """Finds sentences in words that have no sentence breaks; returns the index after each sentence's last word.

    A sentence ends after a word that ends in . ! ? 。！？ and is outside entities, or after the closing quotes and
    brackets that follow it. It does not end if the next word begins in lower case, or if the word is an abbreviation as
    in `split_sentences` (J. Dr. 3.); a full stop that is a word by itself always counts. A sentence that grows longer
    than `max_words` is broken where no entity is cut, as late as possible; only an entity longer than `max_words` is
    cut.

    Args:
        words: the words, not empty.
        tags: their IOB2 tags.
        max_words: the most words of a sentence, at least 1.
    """
    breaks: list[int] = []
    start = 0  # of the sentence
    for end in range(1, len(words) + 1):
        while end - start > max_words:
            between = (w for w in range(start + max_words, start, -1) if not tags[w].startswith("I-"))
            start = next(between, start + max_words)
            breaks.append(start)
        if end == len(words) or (_closes(words, tags, start, end) and not words[end][0].islower()):
            start = end
            breaks.append(start)
    return breaks


def _closes(words: Sequence[str], tags: Sequence[str], start: int, end: int) -> bool:
    """Whether words[start:end] ends like a sentence and the next word does not belong to its ending."""
    if _is_closing(words[end]) and tags[end] == "O":
        return False
    last = end - 1
    while last > start and _is_closing(words[last]) and tags[last] == "O":
        last -= 1
    stem = words[last].rstrip("".join(_STOPS))
    if tags[last] != "O" or stem == words[last]:
        return False
    return not (stem and words[last] == stem + "." and _is_abbreviated(stem))


def _is_closing(word: str) -> bool:
    return all(unicodedata.category(character) in ("Pe", "Pf") for character in word)
