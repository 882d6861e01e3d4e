"""AWS around the handlers: in this process (container, triggers), as SAM builds them (rie), or deployed (ministack)."""
