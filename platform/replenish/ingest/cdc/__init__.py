"""Changes of a source database as single events: PostgreSQL's logical replication, and Debezium's change envelope.

Holds decoding, the first snapshot and the position in the source. Judging and journalling is the event door's.
"""
