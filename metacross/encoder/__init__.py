"""From sentences to windows of word pieces, and through the encoder to their states."""
