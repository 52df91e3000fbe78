"""Adopting languages: a few labelled sentences, and text that taggers label, become support and training data. No Ray.

Modules:
    adopt           adopt: examples, texts and a bundle -> a bundle that has adopted their languages
    after_training  adopt at the end of a training run
    examples        files of labelled sentences -> examples, beside those that a bundle has
    text            files of any format -> sentences without tags
    teacher         one or several taggers label sentences: tags, their probabilities, and how sure they are
    marking         what a machine labelled as sentences that say how sure it was, and of which words it was not
    labels          a text labelled in parts, and divided into what shapes answers and what theta is trained on
    by_confidence   a few sentences labelled by one tagger
    joint_training  theta goes on training on examples or on the teachers' probabilities, and on source sentences
    voting_words    vectors and tags of the words of adopted sentences, which vote on similar words
    records         what a bundle says of its adopted languages, and what people are told
    work            the results of an unfinished adoption, so that an interrupted one goes on
"""
