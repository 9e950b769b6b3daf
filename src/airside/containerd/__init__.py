"""containerd: the client, and publishing to it. Nothing else imports grpc."""
