"""Four weeks in which clocks change, simulated on the whole stack; then every guarantee is checked."""
