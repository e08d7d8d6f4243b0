"""Several engines for one run, each in a process of its own, where one core does not keep up with the calls.

engines  the parent's side: looks like one engine, and sends each page to the process that its digest names
child    a process: one engine, one journal
wire     what they say to each other
"""
