"""The HTTP door: requests become offered events, and verdicts become answers.

Here: limits, credentials, envelopes (CloudEvents, rows), routes, the OpenAPI document, metrics, the server's deadlines.
Not here: what a contract says about an event (`ingest.events`) and how it is kept (`stores.group_commit`).
"""
