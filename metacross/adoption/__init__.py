"""Adopting languages: text that nobody labelled is labelled by taggers, and becomes support and training data. No Ray.

Modules:
    adopt           adopt: texts, teachers and a bundle -> a bundle that has adopted the texts' languages
    after_training  adopt at the end of a training run
    text            files of any format -> sentences without tags
    teacher         one or several taggers label sentences: tags, their probabilities, and how sure they are
    word_vectors    vectors of words, and each word's nearest words of other sentences
    agreement       the filter: which words' labels are too uncertain to learn from, as arrays
    marking         what a machine labelled as arrays over words, and as sentences that say how sure it was
    labels          a text labelled in parts, filtered, and divided into support and training data
    by_confidence   a few sentences labelled by one tagger, filtered by its confidence alone
    distillation    theta goes on training on the teachers' probabilities
    work            the results of an unfinished adoption, so that an interrupted one goes on
"""
