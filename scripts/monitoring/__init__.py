"""What the monitoring component is made from and checked with: Grafana dashboards as code, rules, their proofs."""
