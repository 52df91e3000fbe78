"""Files and directories that are written completely or not at all, and runs kept at an address.

Modules:
    files        single files and their checksums
    directories  directories with manifests
    addresses    s3:// and others, mirrored
    cache        the directory of what can be made again
"""
