"""The verbs, room by room, from the ground up; each room's page says what it reads and writes.

`settings`: what decides the data, as checked values. `work`: how work gets done. `generation`: from
a plan to ``dtb.h5``. `scoring`: from states to ``scores.parquet``. `ranking`: from scores to
``rank.json`` and ``rank.html``. `search`: from a rule to a trained winner. `publishing`: what
people read.
"""
