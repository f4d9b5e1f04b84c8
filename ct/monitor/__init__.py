"""Watches what serves: the new version against the previous one, and both against what the gate measured.

`__main__` is the process; `monitor` the loop over models; `watch` says which version is compared with which; `counters`,
`compared` and `labels` bring the data, `sequential` tests it, `signals` names what was found, `decide` decides, `execution`
carries it out with `actions`, `notify` tells people.
"""
