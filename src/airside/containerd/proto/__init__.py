"""containerd's and CRI's messages, the part that Airside uses; compiled when installing."""
