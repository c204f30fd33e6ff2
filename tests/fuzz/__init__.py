"""Inputs that nobody wrote: mutants of files and of what stands in them, by hypothesis.

`make test` reads some of each kind and the corpus; `make fuzz` goes on for a stated time, prints
one table, and keeps in the corpus what went wrong.
"""
