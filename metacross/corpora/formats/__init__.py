"""A module for each file format of tagged corpora, reading and writing, and the one that recognises them by content.

Modules:
    columns      a word a line
    recognise    which format a file is in
"""
