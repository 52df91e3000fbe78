"""A module for each file format of tagged corpora, reading and writing, and the one that recognises them by content.

Modules:
    recognise      which format a file is in
    columns        a word a line, read
    conll_writer   a word a line, written; and CoNLL-U
    writing        which formats can be written
    json_lines     JSON lines and JSON documents
    arrow          Parquet and Arrow files
    hub            datasets of the Hugging Face hub
    records        one JSON object or table row: words with tags, or a text with entities
    entity_shapes  entities with offsets, in the shapes that annotation tools write
    label_studio   tasks of Label Studio, with annotations or for import
    brat           brat standoff: texts, and files of annotations beside them
    csv_table      tables with a header: a row per word, or per sentence
    doc_bin        spaCy's DocBin
"""
