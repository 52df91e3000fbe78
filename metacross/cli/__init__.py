"""The command line: a module for each command, registered in `app`.

    app                        the program `metacross`
    train, tune, evaluate,     one command each
    tag, data, index, serve
    options                    arguments and options that commands share
    streams, remote            what `metacross tag` reads and writes; the same through a service
    display, tables, terminal  progress, tables, messages and exit statuses
"""
