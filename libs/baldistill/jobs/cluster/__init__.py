"""Jobs as Kubernetes Jobs: made from a template in the cluster, found again by name, watched, deleted when stopped (ADR 45)."""
