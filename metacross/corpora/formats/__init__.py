"""A module for each file format of tagged corpora, reading and writing, and the one that recognises them by content.

Modules:
    recognise     which format a file is in
    writing       which formats can be written
    conll_writer  sentences written as columns, and as CoNLL-U
"""
