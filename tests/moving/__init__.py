"""Two services that send texts, with their tables, their messages at Twilio, and the way to sms-retry."""
