"""Faults on purpose: what becomes of processes that are killed and of files that are damaged.

`commands` are small runs of the command line, `processes` forks them, `killed` ends them at random
points and at every rename, fills the disk and sends signals. `samples` are files of every kind,
which `mutated` damages; `hostile` opens folders that mean harm, and prunes in threads.
"""
