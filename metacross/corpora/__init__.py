"""From corpus files of any format to labelled sentences."""
