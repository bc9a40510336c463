"""optx-schedules."""
