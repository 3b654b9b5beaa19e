"""Stage 1: the contract gate and its doors.

Offered files become journal records, accepted rows and dead letters. No business logic.
"""
