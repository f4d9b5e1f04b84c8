"""The `ct` command: thin commands over the rooms. Heavy imports wait inside the commands, so that `ct --help` is instant."""
