"""What `make docs` adds to the pages of `docs`: tables made from the code, and links out of it."""
