"""What `airside doctor` checks: whether this host lets images go all the way to containers.

`gather` looks, and gives `facts`; `judge` says of facts what is well, what is not, and what to do.
So every judgement is a pure function that a test can ask about any host.
"""
