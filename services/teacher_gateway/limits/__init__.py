"""What stands between a request and its purchase: limits of a key, shared by the replicas, rests and a circuit breaker."""
