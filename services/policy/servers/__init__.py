"""policy's gRPC face: the generated wire form is known here and in the adapters only."""
