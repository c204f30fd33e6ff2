"""From a rule to a trained winner.

| verb | reads | writes | run again |
|---|---|---|---|
| `driver` (`dtb search`) | conf, `rank.json` | `search.json`, `candidates.lines`, `winner.txt` | goes on after the last candidate |
| `winner` | `search.json`, `winner.txt` | `winner/`: a run folder | goes on with the winner's training |
"""
