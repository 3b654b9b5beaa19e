"""Single events: what a push door offers, how the contract judges it, and how it is acknowledged.

The doors themselves (HTTP, change data capture, Kafka) only turn what they receive into offered events.
"""
