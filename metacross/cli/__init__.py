"""The command line: a module for each command, registered in `app`.

Modules:
    app                        the program `metacross`
    train, tune, average, adopt, reproduce, evaluate, tag, data, convert, index, serve, doctor
                               one command each
    options                    arguments and options that commands share
    remote                     `metacross tag` through a service
    display, tables, terminal  progress; tables; messages and exit statuses
"""
