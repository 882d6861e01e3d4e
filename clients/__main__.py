"""`make clients`: writes the client of each language."""

from __future__ import annotations

from pathlib import Path

from clients import make_node, make_python, make_ruby

FILES = {
    "python/sms_retry_client.py": make_python.client,
    "node/sms_retry_client.mjs": make_node.client,
    "ruby/sms_retry_client.rb": make_ruby.client,
}

if __name__ == "__main__":
    for name, client in FILES.items():
        (Path(__file__).parent / name).write_text(client())
