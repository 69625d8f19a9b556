"""What is read: the port `Source` and its adapters. They know the system they read, no repository and no policy."""
