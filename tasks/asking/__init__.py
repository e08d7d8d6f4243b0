"""Ask: one engine per process puts questions about images to the endpoint, within its limits and the job's budget.

engine     the loop and thread that all calls of a process share
fallbacks  from a page to its outcome: kept answers, then one question after another
caller     from a question to its answer: calls, back-off, what stops a run
limits     what holds calls back: places, rates, headers, the cap
question   what is asked            answer     what came back
failures   what a failure means     halting    how a run ends early
calls      the ledger               journal    its write-ahead copy on disk
pages      what is asked about, and how it ended   probe  asking about one sound image
client     the SDK's client
"""
