"""containerd: its client, publishing, unpacking and mirror settings. Nothing else imports grpc."""
