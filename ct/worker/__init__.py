"""The warm worker: a fork server in the training plane that has TFX imported before a node asks for it.

`protocol` is what both ends say, `client` is the control plane's end, `server` the training plane's. `child` is what
runs in a job's own process, forked by the server or started alone when there is no server.
"""
