"""The commands' work, in rooms; the docstring of each says what it reads and writes.

`settings`: the settings as checked values. `work`: engines, tasks and locks. `generation`: from a
plan to ``dtb.h5``. `scoring`: from states to ``scores.parquet``. `ranking`: from scores to
``rank.json`` and ``rank.html``. `search`: from a rule to a trained winner. `publishing`: reports
and other files for people.
"""
