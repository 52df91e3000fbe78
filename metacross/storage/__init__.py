"""Files and directories that are written completely or not at all, and runs kept at an address."""
