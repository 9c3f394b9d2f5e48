"""What a system shows of itself: metrics, traces, and what became of tasks."""
