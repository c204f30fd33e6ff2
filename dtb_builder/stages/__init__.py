"""The verbs: plan, generate, status, merge, query, verify."""
