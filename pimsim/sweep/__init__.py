"""Design-space sweeps: one kernel or workload over many devices, a row for each point."""
