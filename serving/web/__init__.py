"""From a request on the wire to the data plane and back: routes, protocols, tokens, and what can be asked besides."""
