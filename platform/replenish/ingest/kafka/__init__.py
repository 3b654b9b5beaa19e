"""Kafka topics as single events: what a message means, and a consumer that commits offsets only behind the journal.

Judging and journalling is the event door's. Publishing to a topic lies in `stores.bus`.
"""
