"""Policies, risk verdicts, alerts and next best actions (pure)."""
