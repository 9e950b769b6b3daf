"""`airside doctor`: checks whether images on this host reach their containers.

`gather` collects `facts`; `judge` turns facts into findings: each with a severity and advice. Every
judgement is a pure function, so that tests can run it for any host.
"""
