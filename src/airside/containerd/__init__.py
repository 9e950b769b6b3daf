"""containerd: its client, publishing, unpacking and mirror settings. Nothing else imports grpc."""

API = "v1"
"""Of containerd's services (`containerd.services.*.v1`) and of CRI (`runtime.v1`)."""
