"""rooms: the generator of the embedded benchmark (source set, kitchen, group and dyad).

Nothing is imported here: the simulators live in the extra ``cm3t[simulate]`` and only the modules of this package that
render (`render`, `manipulation`, `mocap`, `people`, ...) import them. Reading what was generated needs none of this.
Run ``python -m cm3t.data.rooms --help``.
"""
