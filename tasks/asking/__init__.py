"""Ask: one engine per process puts questions about images to the endpoint, within its limits and the job's budget.

`question` says what is asked, `engine` asks it, `limiter` and `budget` hold it back, `failures` decides what a failed
call means, `answer` reads what came back, `journal` writes every call down before it leaves.
"""
