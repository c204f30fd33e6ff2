"""Faults injected on purpose: crashes at every write, kills, full disks, damaged and hostile files.

`make test` runs a short form of each; `make chaos` runs the long form and prints one table.
"""
