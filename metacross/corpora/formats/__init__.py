"""A module for each file format of tagged corpora, reading and writing, and the one that recognises them by content.

Modules:
    recognise    which format a file is in
    label_studio    tasks of Label Studio, with annotations or for import
    brat            brat standoff: texts, and files of annotations beside them
    csv_table       tables with a header: a row per word, or per sentence
    doc_bin         spaCy's DocBin
"""
