"""The command line: a module for each command, registered in `app`.

Modules:
    app                        the program `metacross`
    train, tune, average, adopt, reproduce, evaluate, tag, data, convert, index, serve, doctor
                               one command each
    options                    arguments and options that commands share
    streams                    what `metacross tag` reads and writes
    remote                     the same through a service
    display, tables, terminal  progress; tables; messages and exit statuses
"""
