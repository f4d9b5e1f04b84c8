"""The processes of a home: start, watch, heal, stop.

`ct.daemon.up`, `.down` and `.status` are what the CLI calls. supervisord (the supervisor package) holds the processes and
restarts what dies; `sentinel` restarts supervisord. `programs` says what runs, `config` how supervisord is told, `launch` is
the first thing each process does, `sweep` finds every process of a home by a mark in its environment.
"""
