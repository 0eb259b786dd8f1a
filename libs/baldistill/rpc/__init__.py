"""What every gRPC server and client shares: callers, status codes, health, interceptors (DESIGN 4)."""
