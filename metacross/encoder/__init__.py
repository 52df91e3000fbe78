"""From sentences to windows of word pieces, and through the encoder to their states.

Modules:
    windows           sentences -> windows of word pieces
    model             encoder and tag head, split into a frozen trunk and the adapted layers
    fused             the layers in fewer operations, for forwards without gradient
    packed            the layers without padding, for training on a CPU
    families          where each family of encoders keeps its parts
    depth             how many of an encoder's layers are used
    sentence_encoder  vectors of windows, for retrieval
    rows              the trunk run once per window, its states packed in rows
    trunk_cache       the states of the source windows, cached
    attention         attention that is fast in bf16 on a CPU too
    device            the choice of device and precision
    loading           an encoder by name or path, with all that belongs to it
    quiet             transformers without its progress bars and notes
    embedded          the encoder that comes out of a wheel
    e5_file           the file in that wheel
"""
