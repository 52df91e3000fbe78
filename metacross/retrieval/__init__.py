"""The labelled sentences that are nearest to a sentence."""
