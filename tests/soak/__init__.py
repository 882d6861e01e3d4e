"""Mixed traffic for hours: memory, connections, sizes and claim times stay flat, and each guarantee holds."""
