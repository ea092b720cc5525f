"""Runs code that is not ours, a process for each call: `python -m posttrain_trainer --rewards-server`.

The standard library alone is imported here: the server starts at once, and what is forked from it is small.

    server   takes connections and forks a warden for each
    warden   starts one child, speaks with it, limits it, ends it with everything it started, and answers
    child    gives up its rights (confinement: limits, landlock, seccomp), then runs the code
"""
