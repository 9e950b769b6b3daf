"""Makes the .deb and .rpm of the frozen program, with manual pages and completions."""
