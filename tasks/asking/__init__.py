"""Ask: one engine per process puts questions about images to the endpoint, within its limits and the job's budget.

engine     the loop and thread that all calls of a process share
fallbacks  from a page to its outcome: kept answers, then one question after another
caller     from a question to its answer: calls, back-off, what stops a run
batches    the same by Message Batch
limits     what holds calls back: slots, rates, headers, the cap
keeping    answers looked up and stored      claims     one process at a time asks for an answer
question   what is asked                     answer     what came back, as it is kept
reply      what an endpoint says under a 200, which nothing uses before it was read here
failures   what a failure means              halting    how a run ends early
calls      the ledger                        journal, shared_journal   its write-ahead copy on disk and on S3
pages      what is asked about, and how it ended
priced     from what was received to an answer with its price      probe   asking about one sound image
client     the SDK's client; http, what is under it; secrets, what must never come back
leftovers  answers of a killed run that were received and not yet stored
"""
