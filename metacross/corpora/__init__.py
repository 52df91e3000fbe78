"""From corpus files of any format to labelled sentences.

Modules:
    layout       the columns of a file: separator, words, tags
    formats      the formats of files, recognised by content -> rows of words and tags
    schemes      IOB1, IOBES, BILOU and others -> IOB2
    reader       `read_corpus`: both together -> sentences, and what was odd
    from_config  the corpora that a configuration names
    sentence     a sentence, its words and its entities
    characters   what nobody sees at the edge of a word
    lines        line breaks in raw text: which end a sentence
    words        words joined into text; words and sentences found in raw text
"""
