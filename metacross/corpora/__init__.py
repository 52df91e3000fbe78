"""From corpus files of any format to labelled sentences.

Modules:
    layout         the columns of a file: separator, words, tags
    raw            what the readers of formats hand on
    source         a file opened: compression, encoding, lines
    formats        a module for each file format, recognised by content
    schemes        IOB1, IOBES, BILOU and others -> IOB2
    types          names of entity types: spellings, and those that mean the same
    languages      tags of languages
    scheme_writer  IOB2 -> IOBES and BILOU
    reader         `read_corpus`: both together -> sentences, and what was odd
    refusals       corpora without entities, or with types that a tagger does not know
    conversion     a corpus written in another format, and read back
    names          what the name of a file says about its content
    from_config    the corpora that a configuration names
    sentence       a sentence, its words and its entities
    arguments      arguments of a wrong type
    offset_units   offsets in other units than code points
    utf8           what a file in UTF-8 can hold
    characters     what nobody sees at the edge of a word
    lines          line breaks in raw text: which end a sentence
    spans          texts with marked entities -> sentences, and back
    words          words joined into text; words and sentences found in raw text
"""
