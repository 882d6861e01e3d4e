"""A stand-in for Twilio's Messages API: it keeps every message, fails as planned, and posts signed callbacks."""
