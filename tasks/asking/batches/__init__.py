"""Message Batches: half the price, answers within a day, and no batch submitted twice.

requests  what is put into a batch, and its body, made while it is sent
intents   what was meant to be submitted, durable before it is
wire      the endpoint's side: create, list, retrieve, cancel, results into a file
desk      submits, adopts what a killed run submitted, waits, collects
results   what a line of the results means

Not reached by a run yet: the flow asks online.
"""
