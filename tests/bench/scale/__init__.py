"""What many workers and many jobs cost one replica, and how it recovers when all of them come at once."""
