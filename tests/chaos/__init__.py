"""Workers are killed at every step and at random moments; then every message is compared with Twilio's record."""
