"""Small things that many layers need: periodic calls, threads, durable files."""
